"""GroupAugment's eleven numbers, searched by `finetune.Tuner` and at random.

    python -m benchmarks.group_augment --data PATH --out DIR
    python -m benchmarks.group_augment --data PATH --out DIR --quick

One program trains an encoder on each of many policies; their learning curves, on
pictures that training does not see, are a table on which searches are played many times
over: the tuner that starts cold, the tuner that knows the same space from curves of
other methods and pictures, and random search, which trains each of its draws to the
end. What the tuner finds is then trained anew, with other seeds, beside the default
views of SimSiam, TrivialAugment, RandAugment, the published prior of GroupAugment and
what random search finds, and tested once on the test pictures.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import finetune
from benchmarks.pictures.figures import draw_search
from benchmarks.pictures.hard_views import SIZES as HARD_VIEWS
from benchmarks.pictures.hard_views import read_labelled, spread, take_classes_evenly
from benchmarks.shared.cells import Cells
from benchmarks.shared.runtime import use_compilation_cache
from finetune.meta_dataset import MetaDataset
from finetune.training import MetaTrainConfig
from hardviews import (
    CropAndJitter,
    Encoder,
    GroupAugment,
    Pictures,
    PretrainConfig,
    RandAugment,
    SimCLR,
    SimSiam,
    TrivialAugment,
    encoder_of,
    evaluate_encoder,
    train,
    train_population,
)
from jaxrl_runs.describe import describe
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.weight_files import write_text

SPACE = finetune.SearchSpace(
    tuple(
        finetune.Float(name, values[0], values[-1])
        if name.startswith("p_")
        else finetune.Ordinal(name, values)
        for name, values in GroupAugment.space().items()
    )
)
# The default views as a configuration of the space would be no policy of it: there, a
# flip and jitter act together. It is trained beside the others.
DEFAULTS = {
    "SimSiam's views": CropAndJitter(),
    "TrivialAugment": TrivialAugment(),
    "RandAugment": RandAugment(),
    "GroupAugment, published prior": GroupAugment(),
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        config: Of a training; method, augmentation and seed are set in each.
        method: Of the search.
        past_method: Of the past, on other pictures.
        num_policies: Policies of the table.
        num_train: Pictures that encoders are trained on.
        num_valid: Pictures that the search sees the accuracy on.
        num_test: Pictures for the end.
        num_repeats: Times that a search is played.
        num_seeds: Of the last comparison.
        meta_steps: Gradient steps of the surrogates of the past.
    """

    config: PretrainConfig
    method: Any
    past_method: Any
    num_policies: int
    num_train: int
    num_valid: int
    num_test: int | None
    num_repeats: int
    num_seeds: int
    meta_steps: int


_SMALL = HARD_VIEWS["small"].config
SIZES = {
    "quick": Sizes(
        config=dataclasses.replace(_SMALL, batch_size=64, num_epochs=2),
        method=SimSiam(64, 32),
        past_method=SimCLR(64, 64),
        num_policies=6,
        num_train=320,
        num_valid=200,
        num_test=400,
        num_repeats=5,
        num_seeds=1,
        meta_steps=50,
    ),
    "small": Sizes(
        config=dataclasses.replace(_SMALL, num_epochs=4),
        method=SimSiam(),
        past_method=SimCLR(),
        num_policies=24,
        num_train=2000,
        num_valid=1000,
        num_test=None,
        num_repeats=20,
        num_seeds=3,
        meta_steps=500,
    ),
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Options of the command."""

    data: Annotated[Path, tyro.conf.arg(help="npz file of pictures, or a folder")]
    out: Annotated[Path | None, tyro.conf.arg(help="folder of the run")] = None
    quick: Annotated[bool, tyro.conf.arg(help="the same at a tiny size")] = False
    size: Annotated[
        int | None, tyro.conf.arg(help="side that picture files are resized to")
    ] = None
    resume: Annotated[bool, tyro.conf.arg(help="continue the run in --out")] = False


@dataclasses.dataclass(frozen=True)
class Data:
    """Pictures by what they are for; no picture has two uses.

    Attributes:
        train: Of the search.
        valid: What the search sees.
        past: Of the past, for training.
        past_valid: Of the past, for its curves.
        test: For the end.
    """

    train: Pictures
    valid: Pictures
    past: Pictures
    past_valid: Pictures
    test: Pictures


def split(pictures: Pictures, test: Pictures, sizes: Sizes) -> Data:
    """Shares the training pictures out at random.

    Raises:
        ValueError: There are too few.
    """
    parts = [sizes.num_train, sizes.num_valid] * 2
    if sum(parts) > len(pictures):
        raise ValueError(
            f"data must hold {sum(parts)} training pictures or more, got "
            f"{len(pictures)}"
        )
    order = np.random.default_rng(0).permutation(len(pictures))
    found = [pictures.take(rows) for rows in np.split(order, np.cumsum(parts))[:-1]]
    return Data(*found, test=take_classes_evenly(test, sizes.num_test))


def curves_of(
    config: PretrainConfig,
    policies: list[dict[str, Any]],
    train_set: Pictures,
    valid: Pictures,
) -> dict[str, list[list[float]]]:
    """Learning curves of policies: "scores" and "seconds", `[P, epochs]`."""

    def score(encoder: Encoder) -> float:
        return evaluate_encoder(encoder, train_set, valid)["linear"]

    objects = [GroupAugment.from_config(policy) for policy in policies]
    scores, seconds = train_population(config, objects, train_set, score)
    # What is compiled in the first epoch is no part of a policy's cost.
    seconds[:, 0] = seconds[:, 1:].mean(1) if seconds.shape[1] > 1 else seconds[:, 0]
    return {"scores": scores.tolist(), "seconds": seconds.tolist()}


# ------------------------------------------------------------------------ searches


def play_tuner(curves: dict[str, Any], tuner: finetune.Tuner, order: np.ndarray):
    """Best score so far after each epoch that a tuner trains, until all are."""
    scores, seconds = np.array(curves["scores"]), np.array(curves["seconds"])
    best: list[float] = []
    for _ in range(scores.size):
        trial = tuner.suggest()
        policy, epoch = order[trial.id], trial.epoch - 1
        score = float(scores[policy, epoch])
        is_last = trial.epoch == scores.shape[1]
        tuner.observe(trial, score, float(seconds[policy, epoch]), is_last)
        best.append(max([score, *best[-1:]]))
    return best


def play_random(curves: dict[str, Any], order: np.ndarray) -> list[float]:
    """The same for random search, which trains each draw to the end."""
    scores = np.array(curves["scores"])[order].reshape(-1)
    return np.maximum.accumulate(scores).tolist()


def past_runs(policies: list[dict[str, Any]], curves: dict[str, Any]) -> MetaDataset:
    """Past runs as the tuner learns from them: one data set."""
    vectors = np.stack([SPACE.to_vector(policy) for policy in policies])
    return MetaDataset(
        space=SPACE,
        vectors=vectors,
        curves=np.array(curves["scores"]),
        costs=np.array(curves["seconds"]),
        dataset=np.zeros(len(policies)),
        dataset_names=("past",),
        meta_features=np.ones((1, 1)),
        meta_feature_names=("pictures",),
    )


def play_all(
    sizes: Sizes,
    policies: list[dict[str, Any]],
    curves: dict[str, Any],
    past_policies: list[dict[str, Any]],
    past_curves: dict[str, Any],
) -> dict[str, list[list[float]]]:
    """Best score so far after each epoch: by search, `[repeats][epochs]`."""
    config = finetune.FitConfig(
        performance=MetaTrainConfig(num_steps=sizes.meta_steps),
        cost=MetaTrainConfig(num_steps=sizes.meta_steps, num_members=2),
        ranking=finetune.RankingConfig(num_steps=sizes.meta_steps),
        reference=None,
    )
    surrogates = finetune.fit_surrogates(
        0, past_runs(past_policies, past_curves), config
    )[0]
    num_epochs = sizes.config.num_epochs
    found: dict[str, list[list[float]]] = {"cold tuner": [], "tuner with a past": []}
    found["random search"] = []
    for repeat in range(sizes.num_repeats):
        order = np.random.default_rng(repeat).permutation(len(policies))
        drawn = [policies[i] for i in order]
        cold = finetune.Tuner(
            SPACE, candidates=drawn, seed=repeat, num_epochs=num_epochs
        )
        warm = finetune.Tuner(
            surrogates=surrogates, candidates=drawn, meta_features=[1.0], seed=repeat
        )
        found["cold tuner"].append(play_tuner(curves, cold, order))
        found["tuner with a past"].append(play_tuner(curves, warm, order))
        found["random search"].append(play_random(curves, order))
    return found


def epochs_until(best: list[list[float]], goal: float) -> list[int]:
    """Epochs until each repetition is as good as a goal; all where it never is."""
    scores = np.array(best)
    reached = scores >= goal
    first = np.where(reached.any(1), reached.argmax(1), scores.shape[1] - 1)
    return (first + 1).tolist()


# ---------------------------------------------------------------------- the report


def compare(
    cells: Cells, sizes: Sizes, data: Data, chosen: dict[str, Any]
) -> dict[str, Any]:
    """Trains each augmentation anew and tests it on the test pictures."""
    results: dict[str, Any] = {}
    for name, augmentation in {**DEFAULTS, **chosen}.items():
        scores = []
        for seed in range(1, 1 + sizes.num_seeds):  # 0 is the search's
            config = dataclasses.replace(
                sizes.config, method=sizes.method, augmentation=augmentation, seed=seed
            )

            def measure(config=config) -> dict[str, float]:
                state = train(config, data.train)
                encoder = encoder_of(config, state, data.train)
                return evaluate_encoder(encoder, data.train, data.test)

            scores.append(cells.fill(f"{name}/{seed}", measure))
        results[name] = {
            what: spread([score[what] for score in scores]) for what in scores[0]
        }
    return results


def run(args: Args) -> dict[str, Any]:
    """Measures, and writes `summary.json`, `table.md` and `search.png`."""
    sizes = SIZES["quick" if args.quick else "small"]
    data = split(*read_labelled(args.data, args.size), sizes)
    out = args.out or next_run_folder("runs/group_augment")
    with RunFolder(
        out, describe({"sizes": sizes, "data": data}), resume=args.resume
    ) as folder:
        num_cells = 2 + (len(DEFAULTS) + 2) * sizes.num_seeds
        cells = Cells(folder, num_cells)
        policies, past_policies = (
            SPACE.sample_distinct(np.random.default_rng(seed), sizes.num_policies)
            for seed in range(2)
        )
        config = dataclasses.replace(sizes.config, method=sizes.method)
        curves = cells.fill(
            "table", lambda: curves_of(config, policies, data.train, data.valid)
        )
        past = dataclasses.replace(sizes.config, method=sizes.past_method)
        past_curves = cells.fill(
            "past",
            lambda: curves_of(past, past_policies, data.past, data.past_valid),
        )
        found = play_all(sizes, policies, curves, past_policies, past_curves)
        summary = summarise(cells, sizes, data, policies, curves, found)
        folder.write_json("summary.json", summary)
        write_text(folder.path / "table.md", table(summary))
        draw_search(found, folder.path / "search.png")
    return summary


def summarise(
    cells: Cells,
    sizes: Sizes,
    data: Data,
    policies: list[dict[str, Any]],
    curves: dict[str, Any],
    found: dict[str, list[list[float]]],
) -> dict[str, Any]:
    """The summary: see `summary.json`."""
    scores = np.array(curves["scores"])
    # What half of all epochs buy, of the first repetition: by the table, or by chance.
    half = scores.size // 2 - 1
    chosen = {
        f"GroupAugment, {search}": GroupAugment.from_config(
            policies[_policy_of(scores, best[0][half])]
        )
        for search, best in found.items()
        if search != "tuner with a past"
    }
    goal = float(np.mean([best[half] for best in found["random search"]]))
    return {
        "linear_probe": compare(cells, sizes, data, chosen),
        "search": {
            name: {
                "epochs_to_goal": spread([float(x) for x in epochs_until(best, goal)]),
                "best_after_half": spread([b[half] for b in best]),
            }
            for name, best in found.items()
        },
        "goal": goal,
        "num_epochs_of_table": int(scores.size),
        "chosen": {name: describe(policy) for name, policy in chosen.items()},
        "seconds": {
            "cpu_seconds_per_epoch": float(np.mean(curves["seconds"])),
            "cpu_seconds_of_table": float(np.sum(curves["seconds"])),
        },
    }


def _policy_of(scores: np.ndarray, score: float) -> int:
    return int(np.argwhere(scores == score)[0][0])


def table(summary: dict[str, Any]) -> str:
    """The summary in Markdown."""
    lines = ["| views | linear probe | neighbours |", "|---|---|---|"]
    for name, x in summary["linear_probe"].items():
        lines.append(f"| {name} | {_percent(x['linear'])} | {_percent(x['knn'])} |")
    lines += [
        "",
        f"Epochs until {summary['goal']:.1%} on validation, which random search has "
        f"after half of {summary['num_epochs_of_table']}; best after half:",
    ]
    for name, x in summary["search"].items():
        epochs, low_high = x["epochs_to_goal"]["mean"], x["epochs_to_goal"]["ci95"]
        lines.append(
            f"{name}: {epochs:.1f} [{low_high[0]:.1f}, {low_high[1]:.1f}]; "
            f"{_percent(x['best_after_half'])}"
        )
    return "\n".join(lines) + "\n"


def _percent(x: dict[str, Any]) -> str:
    low, high = x["ci95"]
    return f"{x['mean']:.1%} [{low:.1%}, {high:.1%}]"


def main() -> None:
    """Reads the command line."""
    args = tyro.cli(Args, description=__doc__)
    use_compilation_cache()
    print(table(run(args)))

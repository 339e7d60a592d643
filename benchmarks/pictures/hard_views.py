"""Hard views beside random ones: the same epochs, and the same time.

    python -m benchmarks.hard_views --data PATH --out DIR
    python -m benchmarks.hard_views --data PATH --out DIR --quick
    python -m benchmarks.hard_views --data cifar-10-batches-bin --out DIR --scale paper

`--data` is an npz file of pictures or the folder of CIFAR-10's binary version. Each
method is trained on random pairs of views, on the hardest pair of four views, and on
random pairs for as many epochs as take the time of hard ones; a seed has the same
weights and the same order of pictures in all three. Test pictures choose nothing.
`--scale paper` is for one GPU: ResNet-18, batches of 512, 200 epochs (`--epochs 800`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from benchmarks.pictures.figures import draw_curves
from benchmarks.shared.cells import Cells
from benchmarks.shared.runtime import use_compilation_cache
from hardviews import (
    RESNET18,
    Pictures,
    PretrainConfig,
    ResNetConfig,
    SimCLR,
    SimSiam,
    encoder_of,
    evaluate_encoder,
    random_encoder,
    read_pictures,
    train,
)
from hardviews.pictures import need_labels
from jaxrl_runs.describe import describe
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_runs.weight_files import write_text


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        config: What all cells share; method, views, epochs and seed are set in each.
        methods: The methods.
        num_train: Training pictures used; None for all.
        num_test: Test pictures used; None for all.
        num_epochs: Of random and hard views.
        num_seeds: Of the table.
        num_views: Views of a picture that the hardest two are taken from.
        curve_views: Further numbers of views, for the first method and seed.
        curve_sizes: Further sides of the views, likewise.
        num_evaluations: Points of a learning curve.
    """

    config: PretrainConfig
    methods: dict[str, Any]
    num_train: int | None
    num_test: int | None
    num_epochs: int
    num_seeds: int
    num_views: int = 4
    curve_views: tuple[int, ...] = (3, 8)
    curve_sizes: tuple[int, ...] = (16, 32)
    num_evaluations: int = 4


_SMALL = PretrainConfig(
    encoder=ResNetConfig(width=16), view_size=24, batch_size=128, learning_rate=0.2
)
SIZES = {
    "quick": Sizes(
        config=dataclasses.replace(_SMALL, batch_size=64),
        methods={"SimSiam": SimSiam(64, 32), "SimCLR": SimCLR(64, 64)},
        num_train=640,
        num_test=400,
        num_epochs=2,
        num_seeds=2,
        curve_views=(),
        curve_sizes=(),
        num_evaluations=2,
    ),
    "small": Sizes(
        config=_SMALL,
        methods={"SimSiam": SimSiam(), "SimCLR": SimCLR()},
        num_train=5000,
        num_test=None,
        num_epochs=4,
        num_seeds=5,
    ),
    "paper": Sizes(
        config=PretrainConfig(
            encoder=RESNET18, batch_size=512, learning_rate=0.06, weight_decay=5e-4
        ),
        methods={"SimSiam": SimSiam(2048, 512), "SimCLR": SimCLR(128, 512)},
        num_train=None,
        num_test=None,
        num_epochs=200,
        num_seeds=5,
        curve_views=(),
        curve_sizes=(),
        num_evaluations=10,
    ),
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Options of the command."""

    data: Annotated[Path, tyro.conf.arg(help="npz file of pictures, or a folder")]
    out: Annotated[Path | None, tyro.conf.arg(help="folder of the run")] = None
    quick: Annotated[bool, tyro.conf.arg(help="the same at a tiny size")] = False
    scale: Annotated[
        Literal["small", "paper"], tyro.conf.arg(help="for a CPU, or for a GPU")
    ] = "small"
    seeds: Annotated[int | None, tyro.conf.arg(help="instead of the scale's")] = None
    epochs: Annotated[int | None, tyro.conf.arg(help="instead of the scale's")] = None
    size: Annotated[
        int | None, tyro.conf.arg(help="side that picture files are resized to")
    ] = None
    resume: Annotated[bool, tyro.conf.arg(help="continue the run in --out")] = False


def read_labelled(path: Path, size: int | None = None) -> tuple[Pictures, Pictures]:
    """Training and test pictures.

    Args:
        path: As of `hardviews.read_pictures`.
        size: Side that picture files are resized to.

    Raises:
        ValueError: They have no labels.
    """
    found = read_pictures(path, size=size)
    for name, part in zip(("training pictures", "test pictures"), found, strict=True):
        need_labels(part, name)
    return found


def take_classes_evenly(pictures: Pictures, number: int | None) -> Pictures:
    """The first pictures of each class, in equal numbers, or all of them."""
    if number is None or number >= len(pictures):
        return pictures
    labels = np.asarray(pictures.labels)
    each = number // pictures.num_classes
    rows = [np.flatnonzero(labels == c)[:each] for c in range(pictures.num_classes)]
    return pictures.take(np.sort(np.concatenate(rows)))


def measure(
    config: PretrainConfig, train_set: Pictures, test_set: Pictures, points: int
) -> dict[str, Any]:
    """Trains one encoder and follows how good it gets.

    Returns:
        "linear" and "knn" at the end, "overlap" of the crops trained on and
        "overlap_random", means of all epochs, "cpu_seconds" of an epoch (the median of
        those after the first), and "curve": rows of epoch, linear, knn.
    """
    rows: list[dict[str, Any]] = []
    curve: list[dict[str, Any]] = []
    last = config.num_epochs
    due = {round(x) for x in np.linspace(0, last, points + 1)[1:]} | {last}

    def on_epoch(state, row):
        rows.append(row)
        if row["epoch"] in due:
            encoder = encoder_of(config, state, train_set)
            found = evaluate_encoder(encoder, train_set, test_set)
            curve.append({"epoch": row["epoch"], **found})

    train(config, train_set, on_epoch=on_epoch)
    steady = rows[1:] or rows
    return {
        "linear": curve[-1]["linear"],
        "knn": curve[-1]["knn"],
        "num_epochs": last,
        "overlap": float(np.mean([r["overlap"] for r in rows])),
        "overlap_random": float(np.mean([r["overlap_random"] for r in rows])),
        "cpu_seconds": float(np.median([r["cpu_seconds"] for r in steady])),
        "curve": curve,
    }


ARMS = ("random", "hard", "random, same time")


def fill(cells: Cells, sizes: Sizes, train_set: Pictures, test_set: Pictures) -> None:
    """Measures all cells, `METHOD/ARM/SEED`, a seed of everything at a time."""

    def cell(
        name: str, method: str, views: int, epochs: int, seed: int, **others: Any
    ) -> dict:
        config = dataclasses.replace(
            sizes.config,
            method=sizes.methods[method],
            num_views=views,
            num_epochs=epochs,
            seed=seed,
            **others,
        )
        points = sizes.num_evaluations
        return cells.fill(name, lambda: measure(config, train_set, test_set, points))

    for seed in range(sizes.num_seeds):
        for method in sizes.methods:
            epochs = sizes.num_epochs
            plain = cell(f"{method}/random/{seed}", method, 2, epochs, seed)
            name = f"{method}/hard/{seed}"
            hard = cell(name, method, sizes.num_views, epochs, seed)
            # Of the first seed, for all: the schedule's length belongs to the arm.
            if seed == 0:
                ratio = hard["cpu_seconds"] / plain["cpu_seconds"]
                longer = cells.done.setdefault("same_time_epochs", {})
                longer.setdefault(method, max(epochs + 1, round(epochs * ratio)))
            longer = cells.done["same_time_epochs"][method]
            cell(f"{method}/random, same time/{seed}", method, 2, longer, seed)
    first = next(iter(sizes.methods))
    for views in sizes.curve_views:
        cell(f"{first}/{views} views/0", first, views, sizes.num_epochs, 0)
    for size in sizes.curve_sizes:
        for arm, views in (("random", 2), ("hard", sizes.num_views)):
            name = f"{first}/{arm}, {size} pixels/0"
            cell(name, first, views, sizes.num_epochs, 0, view_size=size)
    untrained = random_encoder(
        jax.random.key(0), sizes.config.encoder, train_set.mean, train_set.std
    )
    cells.fill("untrained", lambda: evaluate_encoder(untrained, train_set, test_set))


def spread(scores: list[float]) -> dict[str, Any]:
    """Mean, 95 % interval and the numbers themselves."""
    return {
        "mean": float(np.mean(scores)),
        "ci95": list(bootstrap_ci95(np.array(scores))),
        "num_seeds": len(scores),
        "scores": scores,
    }


def summarise(done: dict[str, Any], sizes: Sizes) -> dict[str, Any]:
    """The summary of all cells: see `summary.json`."""
    summary: dict[str, Any] = {
        "linear_probe": {},
        "nearest_neighbours": {},
        "advantage": {},
        "overlap": {},
        "seconds": {},
        "views": {},
        "sizes": {},
        "untrained": done["untrained"],
        "curves": {},
    }

    def of(method: str, arm: str, what: str) -> list[Any]:
        return [done[f"{method}/{arm}/{s}"][what] for s in range(sizes.num_seeds)]

    for method in sizes.methods:
        for arm in ARMS:
            name = f"{method}, {arm}"
            summary["linear_probe"][name] = spread(of(method, arm, "linear"))
            summary["nearest_neighbours"][name] = spread(of(method, arm, "knn"))
            seconds = float(np.median(of(method, arm, "cpu_seconds")))
            summary["seconds"][name] = {
                "cpu_seconds_per_epoch": seconds,
                "num_epochs": done[f"{method}/{arm}/0"]["num_epochs"],
            }
            summary["curves"][name] = of(method, arm, "curve")
        hard = np.array(of(method, "hard", "linear"))
        for arm in ("random", "random, same time"):
            paired = hard - np.array(of(method, arm, "linear"))
            summary["advantage"][f"{method}, over {arm}"] = spread(paired.tolist())
        summary["overlap"][method] = {
            "selected": spread(of(method, "hard", "overlap")),
            "random": spread(of(method, "hard", "overlap_random")),
        }
    first = next(iter(sizes.methods))
    named = [(2, "random"), (sizes.num_views, "hard")]
    named += [(views, f"{views} views") for views in sizes.curve_views]
    for views, arm in sorted(named):
        cell = done[f"{first}/{arm}/0"]
        summary["views"][str(views)] = {name: cell[name] for name in _KEPT}
    for size in sorted((sizes.config.view_size, *sizes.curve_sizes)):
        own = "" if size == sizes.config.view_size else f", {size} pixels"
        for arm in ("random", "hard"):
            cell = done[f"{first}/{arm}{own}/0"]
            summary["sizes"][f"{size} pixels, {arm}"] = {n: cell[n] for n in _KEPT}
    return summary


_KEPT = ("linear", "knn", "overlap", "cpu_seconds")


def table(summary: dict[str, Any]) -> str:
    """The summary in Markdown."""
    lines = [
        "| method, views | epochs | linear probe | neighbours | CPU s / epoch |",
        "|---|---|---|---|---|",
    ]
    for name, linear in summary["linear_probe"].items():
        seconds, knn = summary["seconds"][name], summary["nearest_neighbours"][name]
        lines.append(
            f"| {name} | {seconds['num_epochs']} | {_shown(linear)} | {_shown(knn)} "
            f"| {seconds['cpu_seconds_per_epoch']:.1f} |"
        )
    untrained = summary["untrained"]
    lines.append(
        f"| untrained | 0 | {untrained['linear']:.1%} | {untrained['knn']:.1%} | |"
    )
    lines += ["", "Hard views ahead of random ones by, paired by seed (linear probe):"]
    lines += [f"{name}: {_shown(x)}" for name, x in summary["advantage"].items()]
    lines += ["", "Intersection over union of the two crops trained on:"]
    lines += [
        f"{method}: hard {x['selected']['mean']:.3f}, random {x['random']['mean']:.3f}"
        for method, x in summary["overlap"].items()
    ]
    for title, what in (("number of views", "views"), ("side of the views", "sizes")):
        lines += ["", f"By {title}, one seed:"]
        lines += [
            f"{name}: linear {x['linear']:.1%}, neighbours {x['knn']:.1%}, overlap "
            f"{x['overlap']:.3f}, {x['cpu_seconds']:.1f} CPU s an epoch"
            for name, x in summary[what].items()
        ]
    return "\n".join(lines) + "\n"


def _shown(x: dict[str, Any]) -> str:
    low, high = x["ci95"]
    return f"{x['mean']:.1%} [{low:.1%}, {high:.1%}]"


def run(args: Args) -> dict[str, Any]:
    """Measures, and writes `summary.json`, `table.md` and `curves.png`."""
    sizes = SIZES["quick" if args.quick else args.scale]
    given = {"num_seeds": args.seeds, "num_epochs": args.epochs}
    changed: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    sizes = dataclasses.replace(sizes, **changed)
    train_set, test_set = read_labelled(args.data, args.size)
    train_set = take_classes_evenly(train_set, sizes.num_train)
    test_set = take_classes_evenly(test_set, sizes.num_test)
    out = args.out or next_run_folder("runs/hard_views")
    identity = describe({"sizes": sizes, "train": train_set, "test": test_set})
    with RunFolder(out, identity, resume=args.resume) as folder:
        total = sizes.num_seeds * len(sizes.methods) * len(ARMS)
        more = len(sizes.curve_views) + 2 * len(sizes.curve_sizes) + 1
        cells = Cells(folder, total + more)
        fill(cells, sizes, train_set, test_set)
        summary = summarise(cells.done, sizes)
        folder.write_json("summary.json", summary)
        write_text(folder.path / "table.md", table(summary))
        draw_curves(summary["curves"], folder.path / "curves.png")
    return summary


def main() -> None:
    """Reads the command line."""
    args = tyro.cli(Args, description=__doc__)
    use_compilation_cache()
    print(table(run(args)))

"""Command line: `python -m finetune fit`, `recommend` and `auto`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import tyro

from finetune.automl import auto
from finetune.bundle import FitConfig, fit_surrogates
from finetune.readers import read
from finetune.training import MetaTrainConfig
from finetune.tuner import Tuner
from jaxrl_runs.commands import run_command
from jaxrl_runs.run_folder import next_run_folder


@dataclasses.dataclass(frozen=True)
class Fit:
    """Meta-learn surrogates from past finetuning runs.

    Attributes:
        data: npz table, or a folder in the layout of quicktunetool or Quick-Tune.
        out: Folder to write the surrogates to.
        percent: Whether curve.csv holds percent (--no-percent: fractions).
        num_members: Size of the performance ensemble.
        num_steps: Meta-training steps of the performance surrogate.
        seed: Random seed.
    """

    data: Path
    out: Path
    percent: bool = True
    num_members: int = 9
    num_steps: int = MetaTrainConfig.num_steps
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Recommend:
    """Recommend configurations before any observation, as json lines.

    Attributes:
        meta_features: Of the dataset: number of training images, of classes, side in
            pixels, channels (or what the surrogates were fitted with).
        surrogates: Folder written by `fit`; default: those shipped with the package.
        top: How many configurations.
        num_candidates: Drawn from the search space to choose from.
        seed: Of the candidates.
    """

    meta_features: tuple[float, ...]
    surrogates: Path | None = None
    top: int = 5
    num_candidates: int = 1000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Auto:
    """Classify tables, texts, series or pictures, within minutes.

    Attributes:
        data: Folder with train.csv or train.npz, and test.csv or test.npz; or with a
            folder of pictures or txt files per class, as it is or in train/, and test/.
        out: Folder for predictions.csv, written anew as they improve; without it, the
            next numbered one under runs/.
        minutes: Of wall time.
        label: Label column of a csv file; default: label, target, class, y or the last.
            Several: columns of 0 and 1, of which a row may have any number.
        kind: Modality, where the data do not say: numbers in a csv file may be series.
        seed: Random seed.
    """

    data: Path
    out: Path | None = None
    minutes: float = 5.0
    label: tuple[str, ...] = ()
    kind: Literal["table", "text", "series", "image"] | None = None
    seed: int = 0


def run_auto(args: Auto) -> None:
    """Predict, and say what with."""
    out = args.out or next_run_folder("runs/auto")
    try:
        result = auto(
            args.data,
            minutes=args.minutes,
            label=args.label or None,
            kind=args.kind,
            out=out,
            seed=args.seed,
        )
    except ImportError as error:
        raise ValueError(str(error)) from None
    what = "area under the ROC curve" if result.several else "accuracy"
    where = f"predictions in {out}"
    if not len(result.probabilities):
        where = f"nothing to predict: no test rows beside {args.data}"
    print(f"held-out {what} {result.score:.4f}; {where}, by")
    for config, weight in result.ensemble:
        print(f"{weight:.2f} {json.dumps(config)}")


def run_fit(args: Fit) -> None:
    """Fit and save."""
    data = read(args.data, args.percent)
    print(
        f"{data.source}: {data.num_runs} runs on {data.num_datasets} datasets, "
        f"{data.space.num_columns} columns; meta-training (a minute or two) ...",
        flush=True,
    )
    config = FitConfig(
        performance=MetaTrainConfig(
            num_members=args.num_members, num_steps=args.num_steps
        )
    )
    bundle = fit_surrogates(args.seed, data, config)[0]
    bundle.save(args.out)
    print(f"Wrote weights.npz and card.json to {args.out}")


def run_recommend(args: Recommend) -> None:
    """Print the recommended configurations."""
    tuner = Tuner.load(
        args.surrogates, num_candidates=args.num_candidates, seed=args.seed
    )
    for config in tuner.recommend(args.meta_features, args.top):
        print(json.dumps(config))


def main() -> None:
    """Parse the command line."""
    args = tyro.cli(
        Annotated[Fit, tyro.conf.subcommand("fit")]
        | Annotated[Recommend, tyro.conf.subcommand("recommend")]
        | Annotated[Auto, tyro.conf.subcommand("auto")],
        prog="python -m finetune",
    )
    if isinstance(args, Auto):
        run_command(
            lambda: run_auto(args), f"{args.out} holds the predictions made so far"
        )
        return
    run_command(
        lambda: run_fit(args) if isinstance(args, Fit) else run_recommend(args),
        "nothing was written; the same command gives the same result",
    )


if __name__ == "__main__":
    main()

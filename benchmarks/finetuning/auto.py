"""`finetune.auto` beside random search and baselines at default settings.

    python -m benchmarks.finetuning_auto

Data that need no download (`benchmarks.finetuning.auto_data`). Time is CPU time of this
process, so that a busy machine changes little. Random search draws from the same space,
trains each draw to its end on the same folds and predicts with the best. Boosting is
one fit of HistGradientBoostingClassifier as it comes, on the columns that `auto` makes
of texts, series and pictures (one fit per label, where there are several). Usual is
what one would write first: logistic regression on tf-idf for texts, the nearest
neighbour for series and pictures. Reported: accuracy of the last prediction (for
several labels the mean area under their ROC curves), and the area under the learning
curve of 2 score - 1 over log time, as the AutoDL challenges score it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import finetune
from benchmarks.finetuning.auto_data import DATA, Split
from finetune.automl.ensemble import log_loss
from finetune.automl.inputs import read_examples
from finetune.automl.labels import score
from finetune.automl.members import OutOfTime, start_run
from finetune.automl.portfolio import make_space
from finetune.automl.views import prepare
from jaxrl_runs.run_folder import RunFolder, next_run_folder

Predictions = list[tuple[float, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        out: Folder of the run; without it, the next numbered one under runs/.
        data: Names of data.
        seconds: CPU-seconds of `auto` and of random search.
        num_seeds: Splits of each data set.
    """

    out: Path | None = None
    data: tuple[str, ...] = tuple(DATA)
    seconds: float = 10.0
    num_seeds: int = 5

    def __post_init__(self):
        unknown = sorted(set(self.data) - set(DATA))
        if unknown or not self.data:
            raise ValueError(f"--data must be among {tuple(DATA)}, got {self.data}")
        if self.num_seeds < 1 or self.seconds <= 0:
            raise ValueError(
                "--num-seeds must be 1 or more and --seconds above 0, got "
                f"{self.num_seeds} and {self.seconds}"
            )


def play_auto(split: Split, seconds: float, seed: int) -> Predictions:
    """Probabilities by `finetune.auto`, with their times."""
    return finetune.auto(
        (split.x, split.y),
        split.test,
        kind=split.kind,
        minutes=seconds / 60,
        seed=seed,
        progress=False,
        clock=time.process_time,
    ).predictions


def play_random(split: Split, seconds: float, seed: int) -> Predictions:
    """Probabilities by the best of random draws, trained to their end."""
    started = time.process_time()
    _, folds = prepare_split(split, seed)
    truth = folds.y[np.concatenate(folds.valid)]
    random, space = np.random.default_rng(seed), make_space(split.kind)
    found, best = [], np.inf

    def check():
        if found and time.process_time() - started >= seconds:
            raise OutOfTime

    while True:
        run = start_run(space.sample(random), folds, seed)
        try:
            fitted = run.train_epoch(check)
            while not fitted.is_last:
                fitted = run.train_epoch(check)
        except OutOfTime:
            return found
        except ValueError:  # a configuration that cannot be fitted
            continue
        loss = log_loss(fitted.held_out, truth)
        if loss < best:
            best = loss
            found.append((time.process_time() - started, fitted.test))


def prepare_split(split: Split, seed: int):
    """What `auto` makes of the data."""
    return prepare(
        *read_examples((split.x, split.y), split.test, kind=split.kind), seed
    )


def _fit_one(make: Callable[[], Any], split: Split, x, test) -> Predictions:
    """One fit, or one per label, on all training rows."""
    started = time.process_time()
    if split.y.ndim == 1:
        found = make().fit(x, split.y).predict_proba(test)
    else:
        fits = [make().fit(x, y).predict_proba(test)[:, 1] for y in split.y.T]
        found = np.stack(fits, 1)
    return [(time.process_time() - started, np.asarray(found))]


def play_boosting(split: Split, seconds: float, seed: int) -> Predictions:
    """Boosting with default settings; its columns are not counted in its time."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    del seconds
    _, folds = prepare_split(split, seed)
    x, test = (split.x, split.test) if split.kind == "table" else (folds.x, folds.test)
    return _fit_one(
        lambda: HistGradientBoostingClassifier(random_state=seed), split, x, test
    )


def play_usual(split: Split, seconds: float, seed: int) -> Predictions:
    """What one would write first."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    del seconds, seed
    if split.kind == "text":
        return _fit_one(
            lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()),
            split,
            split.x,
            split.test,
        )
    x, test = (np.reshape(a, (len(a), -1)) for a in (split.x, split.test))
    return _fit_one(lambda: KNeighborsClassifier(1), split, x, test)


ARMS = {
    "auto": play_auto,
    "random": play_random,
    "boosting": play_boosting,
    "usual": play_usual,
}


def arms_of(split: Split) -> list[str]:
    """Arms that are played; for tables boosting is the usual."""
    return [arm for arm in ARMS if arm != "usual" or split.kind != "table"]


def measure(arm: str, split: Split, args: Args, seed: int) -> tuple[float, ...]:
    """Last score, area under the learning curve, seconds of the first prediction."""
    found = ARMS[arm](split, args.seconds, seed)
    truth = split.truth
    if truth.ndim == 1:
        truth = np.searchsorted(np.unique(split.y), truth)
    scores = [score(probabilities, truth) for _, probabilities in found]
    times = [seconds for seconds, _ in found]
    area = finetune.area_under_learning_curve(
        times, [2 * s - 1 for s in scores], args.seconds
    )
    return scores[-1], area, times[0]


def run(args: Args) -> dict:
    """Play every arm on every split, and write the summary."""
    out = args.out or next_run_folder("runs/finetuning_auto")
    settings = {**dataclasses.asdict(args), "out": None}
    summary: dict = {}
    with RunFolder(out, settings) as folder:
        for name in args.data:
            rows: dict[str, list] = {}
            for seed in range(args.num_seeds):
                split = DATA[name](seed)
                for arm in arms_of(split):
                    found = measure(arm, split, args, seed)
                    rows.setdefault(arm, []).append(found)
                    print(name, seed, arm, np.round(found, 4), flush=True)
            summary[name] = {
                arm: {"score": a, "area": b, "first_prediction_seconds": c}
                for arm, (a, b, c) in (
                    (arm, np.array(r).T.tolist()) for arm, r in rows.items()
                )
            }
            folder.write_json("summary.json", summary)
            (out / "table.md").write_text(table(summary))
    return summary


def table(summary: dict) -> str:
    """Means over splits, in Markdown."""
    lines = [
        "| data | arm | score | area | first prediction, s |",
        "|---|---|---|---|---|",
    ]
    for name, arms in summary.items():
        for arm, part in arms.items():
            cells = " | ".join(f"{np.mean(v):.3f}" for v in part.values())
            lines.append(f"| {name} | {arm} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options and run."""
    print(json.dumps(run(tyro.cli(Args))))

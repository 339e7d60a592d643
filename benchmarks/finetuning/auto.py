"""`finetune.auto` beside random search and boosting at default settings.

    python -m benchmarks.finetuning_auto

Data sets that scikit-learn ships, a quarter of the rows to be predicted. Time is
CPU time of this process, so that a busy machine changes little. Random search draws
from the same space, trains each draw to its end on the same folds and predicts with
the best; boosting is one fit of HistGradientBoostingClassifier on all training rows,
as it comes. Reported: accuracy of the last prediction, and the area under the learning
curve of 2 accuracy - 1 over log time, as the AutoDL challenges score it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import tyro

import finetune
from finetune.automl.ensemble import log_loss
from finetune.automl.learner import prepare_arrays
from finetune.automl.members import SPACE, OutOfTime, start_run
from jaxrl_runs.run_folder import RunFolder, next_run_folder

DATA = ("digits", "wine", "breast_cancer")


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        out: Folder of the run; without it, the next numbered one under runs/.
        data: Names of scikit-learn's data sets.
        seconds: CPU-seconds of `auto` and of random search.
        num_seeds: Splits of each data set.
    """

    out: Path | None = None
    data: tuple[str, ...] = DATA
    seconds: float = 10.0
    num_seeds: int = 5


def split(name: str, seed: int):
    """Training and test rows: ``x, y, x, y``."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    order = np.random.default_rng(seed).permutation(len(found.target))
    cut = len(order) * 3 // 4
    x, y = found.data, found.target
    return x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]


def play_auto(x, y, test, seconds: float, seed: int):
    """Predictions of `finetune.auto` with their times."""
    result = finetune.auto(
        (x, y),
        test,
        minutes=seconds / 60,
        seed=seed,
        progress=False,
        clock=time.process_time,
    )
    return [(t, result.classes[p.argmax(1)]) for t, p in result.predictions]


def play_random(x, y, test, seconds: float, seed: int):
    """Predictions of the best of random draws, trained to their end."""
    started = time.process_time()
    classes, folds = prepare_arrays(x, y, test, seed)
    truth = folds.y[np.concatenate(folds.valid)]
    random = np.random.default_rng(seed)
    found, best = [], np.inf

    def check():
        if found and time.process_time() - started >= seconds:
            raise OutOfTime

    while True:
        run = start_run(SPACE.sample(random), folds, seed)
        try:
            fitted = run.train_epoch(check)
            while not fitted.is_last:
                fitted = run.train_epoch(check)
        except OutOfTime:
            return found
        loss = log_loss(fitted.held_out, truth)
        if loss < best:
            best = loss
            now = time.process_time() - started
            found.append((now, classes[fitted.test.argmax(1)]))


def play_boosting(x, y, test, seconds: float, seed: int):
    """One fit with default settings on all training rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    del seconds
    started = time.process_time()
    model = HistGradientBoostingClassifier(random_state=seed).fit(x, y)
    return [(time.process_time() - started, model.predict(test))]


ARMS = {"auto": play_auto, "random": play_random, "boosting": play_boosting}


def run(args: Args) -> dict:
    """Play every arm on every split, and write the summary."""
    out = args.out or next_run_folder("runs/finetuning_auto")
    settings = {**dataclasses.asdict(args), "out": None}
    summary: dict = {}
    with RunFolder(out, settings) as folder:
        for name in args.data:
            rows: dict[str, list] = {arm: [] for arm in ARMS}
            for seed in range(args.num_seeds):
                x, y, test, truth = split(name, seed)
                for arm, play in ARMS.items():
                    found = play(x, y, test, args.seconds, seed)
                    right = [float((labels == truth).mean()) for _, labels in found]
                    area = finetune.area_under_learning_curve(
                        [t for t, _ in found], [2 * r - 1 for r in right], args.seconds
                    )
                    rows[arm].append((right[-1], area, found[0][0]))
                    print(name, seed, arm, np.round(rows[arm][-1], 4), flush=True)
            summary[name] = {
                arm: {"accuracy": a, "area": b, "first_prediction_seconds": c}
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
        "| data | arm | accuracy | area | first prediction, s |",
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

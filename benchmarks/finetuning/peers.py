"""The published tools of today beside ours, on the same tables and folds.

    python -m benchmarks.finetuning_peers --data PATH

quicktunetool's optimiser (cost-aware, its predictors fitted on the other folds, no
refits, as it comes) asks, is told, and its best accuracy so far is turned into the
regret of `benchmarks.finetuning`; ours are meta-trained on the same folds. It lives in
an environment of its own, which the command makes once in the user's cache folder.

ifBO's surrogate takes at most ten hyperparameters, and this table has 71 columns of
them, so it cannot be asked here.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import tyro

from benchmarks.finetuning.arms import GRID, HOURS, OURS, run_all, split_seeds
from benchmarks.finetuning.benchmark import Args as FitArgs
from benchmarks.finetuning.benchmark import fit_folds
from benchmarks.finetuning.report import interval, summarise
from benchmarks.finetuning.stages import Stages, fingerprint
from benchmarks.shared.own_environment import environment
from benchmarks.shared.runtime import use_compilation_cache
from finetune import MetaDataset, leave_datasets_out, read
from jaxrl_runs.run_folder import RunFolder, next_run_folder

REQUIREMENTS = ("quicktunetool==0.0.4", "requests")  # imported, not declared
_WORKER = Path(__file__).with_name("peers_worker.py")


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        data: Table of finetuning runs.
        out: Folder of the run; without it, the next numbered one under runs/.
        resume: Go on with a run of the same options that was stopped.
        folds: Folds that are played, of the five of `benchmarks.finetuning`.
        hours: Of finetuning, at most 16.
        iterations: Most passes of quicktunetool's meta-training; 100 is its default.
        num_seeds: Seeds of ours and of the baselines; quicktunetool has one.
        python: An interpreter whose environment has quicktunetool; by default one is
            made.
    """

    data: Path
    out: Path | None = None
    resume: bool = False
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    hours: float = 16.0
    iterations: int = 100
    num_seeds: int = 1
    python: Path | None = None

    def __post_init__(self):
        if not self.folds or not set(self.folds) <= set(range(5)):
            raise ValueError(f"--folds must be among 0 to 4, got {self.folds}")
        if not 0 < self.hours <= 16:
            raise ValueError(
                f"--hours must be above 0 and at most 16, got {self.hours}"
            )
        if self.iterations < 1 or self.num_seeds < 1:
            raise ValueError("--iterations and --num-seeds must be 1 or more")
        if self.resume and self.out is None:
            raise ValueError("--resume: say which run with --out DIR")


def write_fold(path: Path, data: MetaDataset, held_out: list[int]) -> None:
    """What the worker reads."""
    configs = [data.config(run) for run in range(data.num_runs)]
    np.savez(
        path,
        configs=json.dumps(configs),
        curves=data.curves.astype(float),
        costs=data.costs.astype(float),
        dataset=data.dataset,
        meta_features=data.meta_features,
        meta_names=json.dumps(list(data.meta_feature_names)),
        held_out=np.asarray(held_out),
    )


def run_quicktunetool(
    python: Path, data: MetaDataset, held_out: list[int], args: Args
) -> dict[str, np.ndarray]:
    """Best accuracies on the grid ``[datasets, G]``, and what it cost.

    Raises:
        RuntimeError: The worker failed, and what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fold.npz"
        write_fold(path, data, held_out)
        command = [python, _WORKER, path, 3600 * args.hours, args.iterations, 0]
        done = subprocess.run(
            [str(each) for each in command], capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"quicktunetool failed: {done.stderr[-3000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    traces = []
    for line in lines:
        times, bests = np.array([(0.0, 0.0), *line["trace"]]).T
        traces.append(bests[np.searchsorted(times, GRID, "right") - 1])
    names = ("dataset", "num_epochs", "ended", "cpu_seconds", "fit_cpu_seconds")
    return {"best": np.stack(traces)} | {
        name: np.array([line[name] for line in lines]) for name in names
    }


def as_regret(data: MetaDataset, datasets: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Normalised regret ``[D, G]`` of best accuracies so far, as of the replays."""
    found = []
    for dataset, row in zip(datasets, best, strict=True):
        curves = data.curves[data.dataset == dataset]
        high, low = np.nanmax(curves), np.nanmin(curves)
        found.append((high - row) / max(high - low, 1e-6))
    return np.stack(found)


def run(args: Args) -> dict:
    """Play everything and write ``summary.json`` and ``table.md``."""
    out = args.out or next_run_folder("runs/finetuning_peers")
    data = read(args.data)
    train, held_out = leave_datasets_out(data.num_datasets, 5, 42)
    settings = dataclasses.asdict(args)
    for name in ("out", "resume", "data", "python", "folds"):
        del settings[name]
    python = args.python or environment("quicktunetool", REQUIREMENTS)
    identity = {**settings, "data": fingerprint(data)}
    with RunFolder(out, identity, resume=args.resume) as folder:
        stages = Stages(folder)
        theirs = [
            stages.arrays(
                f"quicktunetool_{k}",
                lambda k=k: run_quicktunetool(python, data, held_out[k], args),
            )
            for k in args.folds
        ]
        datasets = np.concatenate([part["dataset"] for part in theirs])
        best = np.concatenate([part["best"] for part in theirs])
        regret = _ours(args, data, train, held_out, stages)
        regret = {name: values[datasets] for name, values in regret.items()}
        regret["quicktunetool"] = as_regret(data, datasets, best)[:, None, None]
        summary = {
            "settings": {**settings, "folds": list(args.folds)},
            "datasets": [data.dataset_names[d] for d in datasets],
            **summarise(regret),
            "minus_ours": _differences(regret),
            "cpu_seconds": {
                name: float(np.sum([part[name].sum() for part in theirs]))
                for name in ("num_epochs", "cpu_seconds")
            },
            "fit_cpu_seconds": [float(part["fit_cpu_seconds"][0]) for part in theirs],
        }
        folder.write_json("summary.json", json.loads(json.dumps(summary)))
        (Path(out) / "table.md").write_text(table(summary))
    print(table(summary))
    return summary


def _ours(args, data, train, held_out, stages: Stages) -> dict[str, np.ndarray]:
    """Regret of ours and of the baselines ``[D, seeds, 1, G]``."""
    fit_args = FitArgs(args.data, num_seeds=args.num_seeds, reference_seeds=0)
    fitted = fit_folds(data, fit_args, train, stages)
    fold = {d: f for f, part in enumerate(held_out) for d in part}
    bundles = [fitted[fold[d]] for d in range(data.num_datasets)]
    seeds = [split_seeds(bundle, args.num_seeds) for bundle in bundles]
    return run_all(
        seeds, data, args.num_seeds, 0, dict.fromkeys(OURS, 0.0), stages.arrays
    )


def _differences(regret: dict[str, np.ndarray]) -> dict[str, dict]:
    """Regret minus that of the default, paired by dataset, with intervals."""
    columns = [int(np.argmin(np.abs(GRID - 3600.0 * h))) for h in HOURS]
    ours = regret["no_refit_history"][:, :, 0][..., columns].mean(1)
    found = {}
    for name, values in regret.items():
        gap = values[:, :, 0][..., columns].mean(1) - ours
        found[name] = {
            f"{h}h": [float(gap[:, i].mean()), *interval(gap[:, i])]
            for i, h in enumerate(HOURS)
        }
    return found


def table(summary: dict) -> str:
    """Markdown."""
    hours = [f"{h}h" for h in HOURS]
    lines = [
        f"| method | {' | '.join(hours)} |",
        "|---|" + "---|" * len(hours),
    ]
    for name, means in summary["regret"].items():
        cells = []
        for hour in hours:
            low, high = summary["regret_interval"][name][hour]
            cells.append(f"{means[hour]:.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options and run."""
    use_compilation_cache()
    run(tyro.cli(Args))

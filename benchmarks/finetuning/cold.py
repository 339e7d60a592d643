"""Cold start against random search and asynchronous halving, on unknown tasks.

    python -m benchmarks.finetuning_cold --data PATH

Every problem is played in simulated seconds by three arms on one shuffled pool of
configurations: a cold tuner, random search that trains each draw to the end, and
asynchronous halving. Problems: 200 drawn ones, 20 in LCBench's space, and the tables
that are found under PATH (taskset_imdb_rnn, medquicktune, quicktune_extended), used as
if nobody knew them. Settings were chosen on seeds 0 to 19 of the drawn problems and on
TaskSet's tasks 0 to 5; seeds from 40 on and the other tasks are played. Writes
``summary.json`` and ``tables.md``; a run that was stopped goes on with
``--resume --out DIR``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

import finetune
from benchmarks.finetuning.problems import (
    Problem,
    draw_lcbench_like,
    draw_problem,
    read_table,
    read_taskset,
    shuffle,
)
from benchmarks.finetuning.report import interval
from benchmarks.finetuning.stages import Stages
from jaxrl_runs.run_folder import RunFolder, next_run_folder

BUDGET = 20.0  # mean full runs
MARKS = np.geomspace(1, BUDGET, 10)
_GRID = np.linspace(0.5, BUDGET, 79)  # of the area: linear time


class Clock:
    """Trains epochs of a problem, and keeps the best value over simulated time."""

    def __init__(self, problem: Problem, budget: float):
        self.problem, self.budget = problem, budget
        self.now, self.best = 0.0, 0.0
        self.times, self.bests = [0.0], [0.0]

    def train(self, run: int, epoch: int) -> tuple[float, float]:
        """Train an epoch, counted from 0; returns what is told and the seconds."""
        seconds = float(self.problem.seconds[run, epoch])
        value = self.problem.value[run, epoch]
        self.now += seconds
        if np.isfinite(value) and value > self.best:
            self.best = float(value)
            self.times.append(self.now)
            self.bests.append(self.best)
        return float(self.problem.told[run, epoch]), seconds

    @property
    def is_over(self) -> bool:
        """Whether the budget is spent."""
        return self.now >= self.budget

    def at(self, times: np.ndarray) -> np.ndarray:
        """The best value at some times."""
        return np.array(self.bests)[np.searchsorted(self.times, times, "right") - 1]


def run_random(problem: Problem, clock: Clock) -> None:
    """Train one configuration after the other to its end."""
    for run in range(len(problem.configs)):
        for epoch in range(problem.told.shape[1]):
            if clock.is_over:
                return
            if not np.isfinite(clock.train(run, epoch)[0]):
                break


def run_halving(problem: Problem, clock: Clock, eta: int = 3) -> None:
    """Asynchronous halving with one worker, rungs at 1, 3, 9, 27, ... epochs."""
    num_epochs = problem.told.shape[1]
    rungs = [eta**k for k in range(10) if eta**k < num_epochs] + [num_epochs]
    sign = 1 if problem.direction == "maximize" else -1
    peak: dict[int, float] = {}
    reached: list[dict[int, float]] = [{} for _ in rungs]
    promoted: list[set[int]] = [set() for _ in rungs]
    fresh = iter(range(len(problem.configs)))

    def pick() -> tuple[int, int] | None:
        for level in range(len(rungs) - 2, -1, -1):
            values = reached[level]
            top = sorted(values, key=lambda run: -values[run])[: len(values) // eta]
            for run in top:
                if run not in promoted[level] and np.isfinite(values[run]):
                    promoted[level].add(run)
                    return run, level + 1
        run = next(fresh, None)
        return None if run is None else (run, 0)

    while (job := pick()) is not None:
        run, level = job
        for epoch in range(0 if level == 0 else rungs[level - 1], rungs[level]):
            if clock.is_over:
                return
            told, _ = clock.train(run, epoch)
            if not np.isfinite(told):
                peak[run] = -np.inf
                break
            peak[run] = max(peak.get(run, -np.inf), sign * told)
        reached[level][run] = peak[run]


def run_tuner(
    problem: Problem,
    clock: Clock,
    seed: int = 0,
    cold: finetune.ColdConfig | None = None,
) -> None:
    """A cold tuner, asked and told as a user would."""
    tuner = finetune.Tuner(
        problem.space,
        candidates=problem.configs,
        num_epochs=problem.told.shape[1],
        direction=problem.direction,
        seed=seed,
        cold=cold or finetune.ColdConfig(),
    )
    while not clock.is_over:
        try:
            trial = tuner.suggest()
        except RuntimeError:  # the pool is used up
            return
        told, seconds = clock.train(trial.id, trial.epoch - 1)
        if np.isfinite(told):
            tuner.observe(trial, told, seconds)
        else:
            tuner.observe_failure(trial, seconds)


ARMS: dict[str, Callable[..., None]] = {
    "random": run_random,
    "halving": run_halving,
    "tuner": run_tuner,
}


def play(problem: Problem, num_seeds: int) -> dict[str, np.ndarray]:
    """Play one problem with every arm.

    Returns:
        By arm, the best value at the marks, and then on the grid of the area,
        ``[seeds, 10 + 79]``.
    """
    full = float(np.nansum(problem.seconds, 1).mean())
    found: dict[str, list[np.ndarray]] = {name: [] for name in ARMS}
    for seed in range(num_seeds):
        pool = shuffle(problem, seed)
        for name, arm in ARMS.items():
            clock = Clock(pool, BUDGET * full)
            arm(pool, clock)
            found[name].append(clock.at(np.r_[MARKS, _GRID] * full))
    return {name: np.array(rows) for name, rows in found.items()}


def judge(played: list[dict[str, np.ndarray]]) -> dict:
    """Means at the marks, differences to both rivals with intervals, and areas.

    The tuner is behind a rival at a mark where the whole 95 % interval of the
    difference, paired by problem, lies below zero.
    """
    num = len(MARKS)
    mean = {a: np.array([p[a].mean(0) for p in played]) for a in ARMS}
    summary: dict = {"num_problems": len(played), "behind_at": {}, "difference": {}}
    summary["best"] = {a: m[:, :num].mean(0).tolist() for a, m in mean.items()}
    summary["area"] = {a: float(m[:, num:].mean()) for a, m in mean.items()}
    for rival in ("random", "halving"):
        difference = (mean["tuner"] - mean[rival])[:, :num]
        bands = [interval(column) for column in difference.T]
        summary["difference"][rival] = [
            [float(d), *band] for d, band in zip(difference.mean(0), bands, strict=True)
        ]
        summary["behind_at"][rival] = sum(high < 0 for _, high in bands)
    area = {a: m[:, num:].mean(1) for a, m in mean.items()}
    ahead = area["tuner"] > np.maximum(area["random"], area["halving"])
    summary["ahead_of_both_in_area"] = float(ahead.mean())
    return summary


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        data: Folder with the tables; those that are missing are left out.
        out: Folder of the run; without it, the next numbered one under runs/.
        resume: Go on with the run in ``out``.
        num_problems: Drawn problems.
        num_like_lcbench: Problems in LCBench's space.
        num_seeds: Orders of the pool, of each problem.
        num_table_seeds: The same for problems of tables.
        first: Seed of the first drawn problem.
    """

    data: Path | None = None
    out: Path | None = None
    resume: bool = False
    num_problems: int = 200
    num_like_lcbench: int = 20
    num_seeds: int = 1
    num_table_seeds: int = 3
    first: int = 40


def _suites(args: Args) -> dict[str, list[Callable[[], Problem]]]:
    """Makers of the problems of each suite."""
    suites: dict[str, list[Callable[[], Problem]]] = {
        "drawn": [
            lambda seed=args.first + i: draw_problem(seed)
            for i in range(args.num_problems)
        ],
        "lcbench_like": [
            lambda seed=args.first + i: draw_lcbench_like(seed)
            for i in range(args.num_like_lcbench)
        ],
    }

    def last_tasks(path: Path) -> list[Problem]:
        return read_taskset(path)[6:]

    tables = {
        "taskset": ("taskset_imdb_rnn/taskset_imdb_rnn_12x1000x51.npz", last_tasks),
        "medical": ("medquicktune", read_table),
        "quicktune": ("quicktune_extended", read_table),
    }
    for name, (path, reader) in tables.items():
        if args.data is not None and (args.data / path).exists():
            suites[name] = [
                lambda problem=problem: problem for problem in reader(args.data / path)
            ]
    return suites


def run(args: Args) -> dict:
    """Play everything and write the summary."""
    if args.resume and args.out is None:
        raise ValueError("--resume: say which run with --out DIR")
    out = args.out or next_run_folder("runs/finetuning_cold")
    settings: dict[str, Any] = dataclasses.asdict(args)
    for name in ("data", "out", "resume"):
        del settings[name]
    settings["cold"] = dataclasses.asdict(finetune.ColdConfig())
    started = time.process_time()
    summary: dict = {"settings": settings}
    with RunFolder(out, settings, resume=args.resume) as folder:
        stages = Stages(folder)
        for suite, makers in _suites(args).items():
            is_table = suite not in ("drawn", "lcbench_like")
            num_seeds = args.num_table_seeds if is_table else args.num_seeds
            played = []
            for i, make in enumerate(tqdm(makers, suite)):

                def compute(make=make, num_seeds=num_seeds):
                    return play(make(), num_seeds)

                played.append(stages.arrays(f"{suite}_{i:03d}", compute))
            summary[suite] = judge(played)
            summary["cpu_seconds"] = time.process_time() - started
            folder.write_json("summary.json", summary)
            write_table(summary, out / "tables.md")
    return summary


def write_table(summary: dict, path: Path) -> None:
    """Write the means at the marks as a table in Markdown."""
    marks = " | ".join(f"{mark:.1f}" for mark in MARKS)
    lines = [f"| suite | arm | {marks} | area | ahead of both |"]
    lines.append("|" + "---|" * (len(MARKS) + 4))
    for suite, part in summary.items():
        if not isinstance(part, dict) or "best" not in part:
            continue
        for arm, best in part["best"].items():
            cells = " | ".join(f"{value:.3f}" for value in best)
            ahead = f"{part['ahead_of_both_in_area']:.0%}" if arm == "tuner" else ""
            lines.append(
                f"| {suite} ({part['num_problems']}) | {arm} | {cells} | "
                f"{part['area'][arm]:.3f} | {ahead} |"
            )
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Parse the options and run."""
    summary = run(tyro.cli(Args))
    for suite, part in summary.items():
        if isinstance(part, dict) and "behind_at" in part:
            print(suite, part["behind_at"], part["ahead_of_both_in_area"])

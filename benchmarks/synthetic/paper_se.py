"""The evolution curves of Ferreira et al. (2022), beside the published ones.

python -m benchmarks.paper_se

Every iteration trains 48 agents on synthetic environments, 16 of them on the search
mean; the curve is the mean return of those 16 on the real task. A run can be extended:
the same command with --resume and more --iterations continues it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

import jaxrl_se
from benchmarks.shared import figures, runtime
from jaxrl_runs.run_folder import RunFolder, holds_run, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se.presets import ferreira2022

# Means of 40 evolutions, read off the vector graphics of their figure 2.
PUBLISHED = {
    "CartPole-v0": {0: 15, 10: 47, 20: 72, 30: 89, 40: 104, 50: 111, 75: 128, 100: 144,
                    125: 149, 150: 153, 175: 159, 199: 164},
    "Acrobot-v1": {0: -479, 10: -237, 20: -175, 30: -142, 40: -142, 50: -131, 75: -131,
                   100: -137, 125: -141, 150: -157, 175: -166, 199: -179},
}  # fmt: skip
# Their code, 48 trainings of a CartPole agent at 31.8 CPU-seconds, measured with one
# thread of a 3.8 GHz Cascade Lake.
REFERENCE_CPU_MINUTES = 25.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      task: One of their two tasks, or both.
      iterations: Up to and including this one; the first is iteration 0.
      seeds: Evolutions per task.
      seed: The first one's seed.
      out: Folder of the run; without it, the next numbered one under runs/.
      resume: Continue the run that --out holds, to more iterations or seeds if asked.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: Literal["CartPole-v0", "Acrobot-v1", "both"] = "both"
    iterations: int = 50
    seeds: int = 5
    seed: int = 0
    out: Path | None = None
    resume: bool = False
    cache: bool = True

    def __post_init__(self):
        if self.iterations < 0:
            raise ValueError(
                f"--iterations must not be negative, got {self.iterations}"
            )
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")
        if self.resume and self.out is None:
            raise ValueError("--resume needs --out, the folder of the run to continue")


def run(options: Options) -> None:
    """Evolves seed after seed; reports after each of them."""
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/paper_se")
    tasks = list(PUBLISHED) if options.task == "both" else [options.task]
    for task in tasks:
        for seed in range(options.seed, options.seed + options.seeds):
            _evolve(task, seed, options, out / task / f"seed-{seed}")
            summary = summarize(out)
            (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
            draw(out / "curves.png", summary)
    print_table(summary)
    print(f"results in {out}")


def _evolve(task: str, seed: int, options: Options, path: Path) -> None:
    """Runs one evolution, or what is missing of it."""
    config = ferreira2022(task, max_generations=options.iterations + 1)
    identity = {"benchmark": "paper_se", "task": task, "seed": seed}
    # The number of iterations does not identify a run, so that it can be extended.
    settings = _settings(config.replace(max_generations=1))
    resume = options.resume and holds_run(path)
    with RunFolder(path, identity | {"evolution": settings}, resume=resume) as folder:
        finished = (folder.summary or {"curve": []})["curve"]
        if len(finished) > options.iterations:
            return
        result = jaxrl_se.evolve(
            task,
            config,
            seed,
            out=folder,
            checkpoint_every=1,
            on_generation=lambda row: _report_progress(task, seed, row, options),
            mesh=runtime.mesh_that_divides(config.population_size),
        )
        rows = result.progress.rows
        summary = {
            "curve": [row["validation_mean"] for row in rows],
            "cpu_minutes_per_iteration": result.progress.cpu_seconds / 60 / len(rows),
            **result.progress.steps.as_dict(),
            "failed_candidates": result.progress.failed_candidates,
        }
        jaxrl_se.save(
            path / "synthetic_env.npz",
            result.env,
            result.params,
            task=task,
            card=identity | summary,
        )
        folder.write_json("summary.json", summary)


def _settings(config: Any) -> dict:
    """The fields of a dataclass that are not at their default, with nested ones.

    Runs of days can be continued after options have been added that they do not use.
    """
    settings = {}
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if dataclasses.is_dataclass(value):
            settings[field.name] = _settings(value)
        elif value != default:
            settings[field.name] = value
    return settings


def _report_progress(task: str, seed: int, row: dict, options: Options) -> None:
    per_iteration = row["seconds"] / row["generation"]
    remaining = per_iteration * (options.iterations + 1 - row["generation"])
    print(
        f"{task} seed {seed} iteration {row['generation'] - 1}/{options.iterations} "
        f"mean of 16 agents {row['validation_mean']:.1f}, "
        f"{row['cpu_seconds'] / row['generation']:.0f} CPU-s per iteration, "
        f"{remaining / 60:.0f} min remaining for this seed",
        file=sys.stderr,
        flush=True,
    )


def summarize(out: Path) -> dict:
    """Curves of all seeds in a run's folder, and their mean where all have come."""
    tasks = {}
    for task, published in PUBLISHED.items():
        paths = sorted((out / task).glob("seed-*/summary.json"))
        seeds = [json.loads(path.read_text()) for path in paths]
        if not seeds:
            continue
        length = min(len(seed["curve"]) for seed in seeds)
        curves = np.array([seed["curve"][:length] for seed in seeds])
        points = []
        for iteration in (i for i in published if i < length):
            scores = curves[:, iteration]
            low, high = bootstrap_ci95(scores) if len(scores) > 1 else (np.nan, np.nan)
            points.append(
                {
                    "iteration": iteration,
                    "mean": float(scores.mean()),
                    "ci95": [low, high],
                    "published": published[iteration],
                    "reached": bool(high >= published[iteration]),
                }
            )
        tasks[task] = {
            "num_seeds": len(seeds),
            "curves": [seed["curve"] for seed in seeds],
            "points": points,
            "cpu_minutes_per_iteration": float(
                np.mean([seed["cpu_minutes_per_iteration"] for seed in seeds])
            ),
            "reference_cpu_minutes_per_iteration": REFERENCE_CPU_MINUTES,
            "failed_candidates": sum(seed["failed_candidates"] for seed in seeds),
        }
    return tasks


def print_table(summary: dict) -> None:
    """Prints means over evolution seeds beside the published ones."""
    for task, result in summary.items():
        print(f"\n{task}: mean over {result['num_seeds']} evolution seeds (theirs: 40)")
        print(f"{'iteration':>9}{'mean':>9}  {'95 % interval':<20}{'published':>9}")
        for point in result["points"]:
            low, high = point["ci95"]
            interval = f"[{low:.1f}, {high:.1f}]"
            verdict = "" if point["reached"] else "  below"
            print(
                f"{point['iteration']:>9}{point['mean']:>9.1f}  {interval:<20}"
                f"{point['published']:>9}{verdict}"
            )
        minutes = result["cpu_minutes_per_iteration"]
        print(
            f"CPU-minutes per iteration: {minutes:.2f}, a "
            f"{REFERENCE_CPU_MINUTES / minutes:.0f}th of their code's "
            f"{REFERENCE_CPU_MINUTES:g} (on CartPole)"
        )


def draw(path: Path, summary: dict) -> None:
    """Draws the curves of all seeds, their mean and the published mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(summary), 4), layout="constrained")
    panels = figure.subplots(1, len(summary), squeeze=False)[0]
    for axes, (task, result) in zip(panels, summary.items(), strict=True):
        for curve in result["curves"]:
            axes.plot(curve, color=figures.LEARNED, alpha=0.35, lw=1)
        length = min(map(len, result["curves"]))
        mean = np.mean([curve[:length] for curve in result["curves"]], axis=0)
        label = f"mean of {result['num_seeds']} seeds"
        axes.plot(mean, color=figures.LEARNED, lw=2.5, label=label)
        longest = max(map(len, result["curves"]))
        published = [(i, x) for i, x in PUBLISHED[task].items() if i <= longest + 5]
        axes.plot(
            *zip(*published, strict=True),
            "--o",
            color="#c2571a",
            ms=4,
            label="Ferreira et al., mean of 40",
        )
        axes.set(title=task, xlabel="iteration", ylabel="return of 16 agents")
        axes.legend(frameon=False)
        figures.quiet(axes)
        axes.grid(alpha=0.15)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Parses the command line and runs the benchmark."""
    run(tyro.cli(Options, description=__doc__))

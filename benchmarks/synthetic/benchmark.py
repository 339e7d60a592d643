"""What the synthetic-environment benchmarks share: evolve, test, compare, report."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

import envs
import jaxrl_se
from benchmarks.shared import runtime
from benchmarks.shared.gymnasium_test import gymnasium_returns
from benchmarks.shared.learning_curves import Curves, learning_curves
from benchmarks.synthetic.card import write_card
from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_runs.describe import describe
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import ReturnStatistics, bootstrap_ci95, summarize
from jaxrl_se.any_task import with_steps
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evolution import TEST, EvolutionResult, Progress
from jaxrl_se.evolution_result import with_environment

TEST_EPISODES = 10
_POLISH = 1_000_011  # Purpose of a key that an evolution has not.


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a synthetic-environment benchmark.

    Attributes:
      seed: Seed of the evolution and of everything else.
      runs: Evolve this many times, from seed on, and report over runs.
      variant: The kind of synthetic environment.
      strategy: Evolution strategy: snes, openai-es, pgpe, sep-cma-es, cma-es or xnes;
        without it, and likewise for the next two, what the benchmark has chosen.
      population: Candidates per generation.
      generations: Maximum number of generations; a solved evolution ends earlier.
      early_stop: End the evolution when two validations in a row say it is solved.
      agents: Unseen agents that test the result.
      curve_agents: Agents per learning curve, in the synthetic and in the real task.
      out: Folder of the run; without it, the next numbered one under runs/.
      resume: Continue the run that --out holds.
      quick: A small budget, of about half a minute with compilation.
      gif: Also write a GIF of an agent on the real task (extra "render").
      cache: Keep compiled programs in the user's cache folder.
    """

    seed: int = 0
    runs: int = 1
    variant: Literal["one-step", "multi-step"] = "one-step"
    strategy: str | None = None
    population: int | None = None
    generations: int | None = None
    early_stop: bool = True
    agents: int = 128
    curve_agents: int = 32
    out: Path | None = None
    resume: bool = False
    quick: bool = False
    gif: bool = False
    cache: bool = True

    def __post_init__(self):
        for name in ("runs", "population", "generations", "agents", "curve_agents"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be at least 1, got {value}"
                )
        if self.resume and self.out is None:
            raise ValueError("--resume needs --out, the folder of the run to continue")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What differs between tasks.

    Attributes:
      module: The module that is run, for the command line in reports.
      task: Name of the target task.
      configs: Evolution settings per variant.
      easier: A variant of the task that differs by its params alone and whose threshold
        the learning curves are measured against, or None for the task itself.
      curve_steps: Training steps of a learning curve, the whole budget.
      threshold: The return that counts as solved, for a task without an agreed one.
      starts: Ranges that the one-step environment starts in after the evolution
        (`jaxrl_se.with_starts`); None leaves it.
      advantage: Whether its rewards are then those of an advantage.
      gain: What its best actions are then multiplied by (`jaxrl_se.with_gain`).
      polish: A last search, which goes on from there; None for none.
    """

    module: str
    task: str
    configs: dict[str, EvolutionConfig]
    easier: str | None = None
    curve_steps: int = 5000
    threshold: float | None = None
    starts: tuple[tuple[float, float], ...] | None = None
    advantage: bool = False
    gain: float = 1.0
    polish: EvolutionConfig | None = None

    @property
    def solved_return(self) -> float:
        """The return on the task that counts as solved."""
        agreed = envs.solved_return(self.task)
        if agreed is None and self.threshold is None:
            raise ValueError(f"threshold: {self.task} has no agreed one, give one")
        return agreed if agreed is not None else self.threshold  # type: ignore

    @property
    def curve_return(self) -> float:
        """The return that learning curves are measured against."""
        easier = None if self.easier is None else envs.solved_return(self.easier)
        return self.solved_return if easier is None else easier


def run(benchmark: Benchmark, options: Options) -> None:
    """Runs a benchmark from evolution to picture, once or `options.runs` times."""
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/" + benchmark.task)
    if options.runs == 1:
        run_once(benchmark, options, out)
    else:
        summaries = [
            run_once(
                benchmark, dataclasses.replace(options, seed=seed), out / f"seed-{seed}"
            )
            for seed in range(options.seed, options.seed + options.runs)
        ]
        print_over_runs(benchmark, summaries)
    print(f"results in {out}")


def run_once(benchmark: Benchmark, options: Options, out: Path) -> dict:
    """Evolves, tests, compares and draws in the folder `out`; returns the summary."""
    if options.quick:
        curve_steps = min(benchmark.curve_steps, 2000)
        benchmark = dataclasses.replace(benchmark, curve_steps=curve_steps, polish=None)
    config = _configure(benchmark, options)
    identity = {
        "benchmark": dataclasses.asdict(benchmark)
        | {"configs": None, "polish": describe(benchmark.polish)},
        "evolution": describe(config),
        "options": dataclasses.asdict(options)
        | {"out": None, "runs": None, "resume": None, "gif": None, "cache": None},
    }
    with RunFolder(out, identity, resume=options.resume) as folder:
        if folder.summary is not None:
            print("this run is finished; its summary:")
            print_table(benchmark, folder.summary)
            return folder.summary
        measured = _measure(benchmark, options, config, folder)
        _write(benchmark, options, measured, folder)
    summary = measured.summary
    print_table(benchmark, summary)
    return summary


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What `_measure` found: the summary and what the pictures are drawn from."""

    summary: dict
    curves: Curves
    result: EvolutionResult
    policy: Any


def _write(
    benchmark: Benchmark, options: Options, measured: Measurement, folder: RunFolder
) -> None:
    """Writes the picture, the environment and, last of all, the summary."""
    from benchmarks.synthetic import pictures

    rows = measured.result.progress.rows
    pictures.learning_curves(
        folder.path / "learning_curves.png", measured.summary, rows, measured.curves
    )
    if options.gif:
        path = folder.path / "agent.gif"
        pictures.episode_gif(path, benchmark.task, measured.policy, options.seed)
    jaxrl_se.save(
        folder.path / "synthetic_env.npz",
        measured.result.env,
        measured.result.params,
        task=benchmark.task,
        card=measured.summary,
    )
    write_card(folder.path / "card.md", measured.summary)
    folder.write_json("summary.json", measured.summary)


def _configure(benchmark: Benchmark, options: Options) -> EvolutionConfig:
    config = benchmark.configs[options.variant]
    asked = {
        "strategy": options.strategy,
        "population_size": options.population,
        "max_generations": options.generations,
    }
    config = config.replace(**{k: v for k, v in asked.items() if v is not None})
    if not options.early_stop:
        config = config.replace(stop_return=float("inf"))
    if options.quick:
        config = config.replace(max_generations=min(config.max_generations, 30))
    return config


def _evolved(
    benchmark: Benchmark,
    options: Options,
    config: EvolutionConfig,
    folder: RunFolder,
    key: jax.Array,
) -> EvolutionResult:
    """Evolves, and changes what came out as the benchmark says."""
    with _Progress(config.max_generations) as progress:
        result = jaxrl_se.evolve(
            benchmark.task,
            config,
            key,
            out=folder,
            on_generation=progress.update,
            mesh=runtime.mesh_that_divides(config.population_size),
            checkpoint_every=30 if options.quick else 5,
        )
    if benchmark.starts is None or options.variant != "one-step":
        return result
    moved = jaxrl_se.with_starts(
        result.env, result.params, benchmark.starts, advantage=benchmark.advantage
    )
    if benchmark.gain != 1:
        moved = jaxrl_se.with_gain(*moved, benchmark.gain)
    if benchmark.polish is not None:
        polished = jaxrl_se.evolve(
            benchmark.task,
            benchmark.polish,
            jax.random.fold_in(key, _POLISH),
            proxy=moved,
            start=moved[1].weights,
            progress=False,
            mesh=runtime.mesh_that_divides(benchmark.polish.population_size),
        )
        moved = polished.env, polished.params
        result = dataclasses.replace(
            result, progress=_both(result.progress, polished.progress)
        )
    return with_environment(result, envs.make(benchmark.task), *moved)


def _both(first: Progress, second: Progress) -> Progress:
    """Generations, times and steps of two searches, one after the other."""
    added = ("generation", "seconds", "cpu_seconds", "failed_candidates")
    return dataclasses.replace(
        with_steps(first, second.steps),
        **{name: getattr(first, name) + getattr(second, name) for name in added},
    )


def _measure(
    benchmark: Benchmark,
    options: Options,
    config: EvolutionConfig,
    folder: RunFolder,
) -> Measurement:
    key = jax.random.key(options.seed)
    result = _evolved(benchmark, options, config, folder, key)
    _say(
        f"evolved {result.progress.generation} generations in "
        f"{result.progress.cpu_seconds:.1f} CPU-s "
        f"(compiled in {result.compile_seconds:.1f} s); testing"
    )
    key_test, key_curves = jax.random.split(jax.random.fold_in(key, TEST))
    task_spec = envs.spec(benchmark.task)
    num_agents = min(options.agents, 64) if options.quick else options.agents

    policies, episodes = result.test(key_test, num_agents)
    returns = summarize(_scores(episodes), benchmark.solved_return)
    summary: dict[str, Any] = {
        "task": benchmark.task,
        "command": _command(benchmark, options),
        "seed": options.seed,
        "variant": options.variant,
        "strategy": config.strategy,
        "population_size": config.population_size,
        "train_steps": config.train_steps,
        "generations": result.progress.generation,
        "solved": result.progress.solved,
        "validation": result.validation,
        "starts": None if options.variant != "one-step" else benchmark.starts,
        "gain": 1.0 if options.variant != "one-step" else benchmark.gain,
        "params_sha256": tree_sha256(result.params.weights),
        "num_weights": sum(x.size for x in jax.tree.leaves(result.params.weights)),
        "evolve_seconds": result.progress.seconds,
        "evolve_cpu_seconds": result.progress.cpu_seconds,
        "compile_seconds": result.compile_seconds,
        "real_steps_spent": result.progress.real_steps,
        "model_steps_spent": result.progress.model_steps,
        "synthetic_steps_spent": result.progress.synthetic_steps,
        "failed_candidates": result.progress.failed_candidates,
        "agents": num_agents,
        "test_episodes": config.validation_episodes,
        "solved_return": benchmark.solved_return,
        **_return_fields(returns),
        "device": f"{jax.local_device_count()} x {jax.devices()[0].device_kind}",
    }
    if task_spec.gymnasium_id is not None:
        summary["gymnasium_return_mean"] = float(
            gymnasium_returns(
                policies, task_spec.gymnasium_id, TEST_EPISODES, options.seed
            ).mean()
        )
    if benchmark.easier is not None:
        easier_params = envs.make(benchmark.easier)[1]
        _, easier = result.test(key_test, num_agents, easier_params)
        name = benchmark.easier.rsplit("-", 1)[1]
        summary[f"{name}_return_mean"] = float(_scores(easier).mean())

    num_curve = min(options.curve_agents, 8) if options.quick else options.curve_agents
    _say("training the same agents in the synthetic and in the real task")
    curves = learning_curves(
        config.validated_agents[0],
        synthetic=(result.env, result.params),
        real=envs.make(benchmark.task),
        test_task=benchmark.easier or benchmark.task,
        solved_return=benchmark.curve_return,
        key=key_curves,
        num_steps=benchmark.curve_steps,
        num_agents=num_curve,
    )
    summary |= {
        "curve_agents": num_curve,
        "curve_task": benchmark.easier or benchmark.task,
        "curve_return": benchmark.curve_return,
        "curve_budget": benchmark.curve_steps,
        "steps_to_solve_synthetic": curves.synthetic.median_steps,
        "steps_to_solve_real": curves.real.median_steps,
        "curve_solved_synthetic": float(np.mean(curves.synthetic.solved)),
        "curve_solved_real": float(np.mean(curves.real.solved)),
        "step_speedup": curves.real.median_steps / curves.synthetic.median_steps,
    }
    if options.variant == "multi-step":
        _say("training agents that take the time limit for the end")
        summary["terminating_return_mean"] = float(
            _terminating_scores(benchmark, config, result, key_curves, num_curve).mean()
        )
    first_policy = jax.tree.map(lambda leaf: leaf[0], policies)
    return Measurement(summary, curves, result, first_policy)


def _terminating_scores(benchmark, config, result, key, num_agents) -> np.ndarray:
    """Scores of agents that see the time limit of the synthetic task as its end."""
    key_train, key_test = jax.random.split(jax.random.fold_in(key, 1))
    trained = jaxrl_se.train(
        config.validated_agents[0],
        envs.TerminatingTimeLimit(result.env),
        result.params,
        key_train,
        config.train_steps,
        num_agents=num_agents,
    )
    episodes = jaxrl_se.evaluate(
        trained.policy, benchmark.task, key_test, TEST_EPISODES
    )
    return np.mean(episodes.returns, axis=1)


def _command(benchmark: Benchmark, options: Options) -> str:
    """The command line that repeats a run."""
    words = [f"python -m {benchmark.module}", f"--seed {options.seed}"]
    for field in dataclasses.fields(Options):
        value, default = getattr(options, field.name), field.default
        if value == default or field.name in ("seed", "runs", "out", "resume", "cache"):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag} {value}")
    return " ".join(words)


def _scores(episodes) -> np.ndarray:
    return np.asarray(episodes.returns, np.float64).mean(axis=1)


def _return_fields(returns: ReturnStatistics) -> dict:
    return {
        "return_mean": returns.mean,
        "return_iqm": returns.iqm,
        "return_ci95": list(returns.ci95),
        "return_p10": returns.p10,
        "fraction_solved": returns.fraction_solved,
    }


class _Progress:
    """A bar on a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, total: int):
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit="gen", disable=not self._is_terminal)
        self._total = total
        self._last_line = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._bar.close()

    def update(self, row: dict) -> None:
        best, mean = row["fitness_best"], row["fitness_mean"]
        text = f"best {best:.1f} mean {mean:.1f}"
        if self._is_terminal:
            self._bar.n = row["generation"]
            self._bar.set_postfix_str(text)
        elif time.perf_counter() - self._last_line > 2 or row["validation_mean"] > -1e9:
            self._last_line = time.perf_counter()
            per_generation = row["seconds"] / row["generation"]
            remaining = per_generation * (self._total - row["generation"])
            validation = row["validation_mean"]
            if validation == validation:
                text += f" validation {validation:.1f}"
            _say(
                f"generation {row['generation']}/{self._total} {text} "
                f"elapsed {row['seconds']:.0f} s, at most {remaining:.0f} s remaining"
            )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_table(benchmark: Benchmark, summary: dict) -> None:
    """Prints the few numbers that answer whether it worked."""
    low, high = summary["return_ci95"]
    threshold = benchmark.solved_return
    rows = [
        (
            f"agents trained only in the {summary['variant']} synthetic environment",
            f"{summary['agents']} x {summary['train_steps']} steps",
        ),
        (
            f"mean return on {benchmark.task}, 95 % interval",
            f"{summary['return_mean']:.1f}  [{low:.1f}, {high:.1f}]",
        ),
        (
            "interquartile mean / 10th percentile",
            f"{summary['return_iqm']:.1f} / {summary['return_p10']:.1f}",
        ),
        (f"agents at {threshold:g} or more", f"{summary['fraction_solved']:.1%}"),
    ]
    if "gymnasium_return_mean" in summary:
        rows.append(
            ("mean return in Gymnasium", f"{summary['gymnasium_return_mean']:.1f}")
        )
    if "terminating_return_mean" in summary:
        rows.append(
            (
                "mean return of agents that take the time limit for the end",
                f"{summary['terminating_return_mean']:.1f}",
            )
        )
    if benchmark.easier is not None:
        name = benchmark.easier.rsplit("-", 1)[1]
        rows.append(
            (
                f"mean return on {benchmark.easier}",
                f"{summary[f'{name}_return_mean']:.1f}",
            )
        )
    budget = summary["curve_budget"]
    rows += [
        (
            f"median steps to {summary['curve_return']:g} on {summary['curve_task']}: "
            "synthetic / real",
            f"{summary['steps_to_solve_synthetic']:.0f} / "
            f"{summary['steps_to_solve_real']:.0f} of {budget} "
            f"({summary['step_speedup']:.0f} x)",
        ),
        (
            "evolution: generations, CPU-seconds, wall seconds",
            f"{summary['generations']}, {summary['evolve_cpu_seconds']:.1f}, "
            f"{summary['evolve_seconds']:.1f} "
            f"(+ {summary['compile_seconds']:.1f} compiling)",
        ),
        (
            "real-environment steps that evolution spent",
            f"{summary['real_steps_spent']:,}",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def print_over_runs(benchmark: Benchmark, summaries: list[dict]) -> None:
    """Prints the figures of several evolution seeds, each a run of its own."""
    names = ["return_mean", "return_iqm", "return_p10", "fraction_solved"]
    if benchmark.easier is not None:
        names.append(f"{benchmark.easier.rsplit('-', 1)[1]}_return_mean")
    names += [
        "gymnasium_return_mean",
        "step_speedup",
        "generations",
        "evolve_cpu_seconds",
        "real_steps_spent",
    ]
    print(f"\nover {len(summaries)} evolution seeds: mean, 95 % interval, worst, best")
    for name in names:
        values = np.array([summary[name] for summary in summaries], np.float64)
        low, high = bootstrap_ci95(values)
        print(
            f"{name:<24}{values.mean():>12,.2f}  [{low:,.2f}, {high:,.2f}]"
            f"  {values.min():,.2f}  {values.max():,.2f}"
        )

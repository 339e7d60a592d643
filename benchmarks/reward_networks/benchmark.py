"""Evolves reward networks; agents learn a task with them in a fraction of the steps.

python -m benchmarks.reward_networks --task cliff

The protocol of Ferreira et al. (2022, figures 5 and 9): several reward networks per
kind, none left out; in each of them, in the task itself and with the bonuses that
people would try first, fresh agents train, the same as in evolution, with varied
hyperparameters, and of another algorithm. After every training episode they are tested
on the real task. The best network of a kind is chosen by agents of its own, which are
not those of the table.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

import jaxrl_se
from benchmarks.reward_networks.card import describe, write_best
from benchmarks.reward_networks.tasks import NO_NETWORK, TASKS, RewardTask, Row
from benchmarks.shared import runtime
from benchmarks.shared.cells import Cells
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se.reward_network import RewardEnv
from jaxrl_se.task_tests import TaskTest

# Purposes of keys: agents that choose are never those that are reported.
_CHOOSE, _REPORT = 1, 2


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the reward network benchmark.

    Attributes:
      task: The task; half_cheetah needs the extra "mujoco".
      kinds: Kinds of reward networks; without it, all of the task's.
      networks: Evolved networks per kind, one seed each; 5 by default, 3 for
        mountain_car_continuous, 1 for half_cheetah.
      agents: Agents per network and row; 10 by default, 5 and 1 for the same tasks.
      rows: Agents that train: the same as in evolution, with varied hyperparameters,
        and of an unseen algorithm.
      steps: Training steps of each, in the task's own; by default 5,000 for cliff,
        10,000 for cartpole, 100,000 and 2,000 for the other two.
      generations: Generations of each evolution.
      population: Candidates per generation.
      train_steps: Inner training steps of a candidate's agent.
      bonuses: Also train agents with the bonuses that are compared: for visits, ICM and
        random network distillation.
      full: The paper's whole protocol: ten networks with ten agents each (five for
        half_cheetah) for all of its steps, and in mountain_car_continuous its agents
        instead of smaller ones; meant for an accelerator.
      seed: Seed of the first evolution and of all agents.
      out: Folder of the run; without it, the next numbered one under runs/.
      resume: Continue the run that --out holds.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: Literal["cliff", "cartpole", "mountain_car_continuous", "half_cheetah"]
    kinds: tuple[str, ...] = ()
    networks: int | None = None
    agents: int | None = None
    rows: tuple[str, ...] = ()
    steps: int | None = None
    generations: int | None = None
    population: int | None = None
    train_steps: int | None = None
    bonuses: bool = True
    full: bool = False
    seed: int = 0
    out: Path | None = None
    resume: bool = False
    cache: bool = True

    def __post_init__(self):
        for name in (
            "networks",
            "agents",
            "steps",
            "generations",
            "population",
            "train_steps",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least 1, got {value}")
        if self.resume and self.out is None:
            raise ValueError("--resume needs --out, the folder of the run to continue")

    def complete(self, task: RewardTask) -> Options:
        """These options with the task's defaults where nothing was asked for."""
        size = 5 if self.task == "half_cheetah" else 10
        defaults: dict[str, Any] = {
            "kinds": task.kinds,
            "networks": size if self.full else 5,
            "agents": size if self.full else 10,
            "rows": tuple(task.rows),
            "steps": -(-task.points[-1] // task.resolution) * task.resolution
            if self.full
            else task.steps,
        }
        if not self.full:
            defaults |= task.small
        changes = {k: v for k, v in defaults.items() if not getattr(self, k)}
        options = dataclasses.replace(self, **changes)
        for name, known in (("kinds", task.kinds), ("rows", tuple(task.rows))):
            unknown = set(getattr(options, name)) - set(known)
            if unknown:
                raise ValueError(
                    f"--{name} must be of {', '.join(known)}, "
                    f"got {sorted(unknown)[0]!r}"
                )
        if options.steps % task.resolution:  # type: ignore
            raise ValueError(
                f"--steps must be a multiple of {task.resolution}, got {options.steps}"
            )
        return options


def run(options: Options) -> None:
    """Evolves, chooses, trains, tests, prints and draws."""
    from benchmarks.reward_networks import pictures

    if options.cache:
        runtime.use_compilation_cache()
    task = TASKS[options.task]
    if not options.full:
        task = task.with_light_agents()
    options = options.complete(task)
    try:
        task.pair(1)
    except ModuleNotFoundError as error:  # which names the extra to install
        raise ValueError(str(error)) from error
    out = options.out or next_run_folder(f"runs/reward_networks_{options.task}")
    identity = {
        name: str(value)
        for name, value in dataclasses.asdict(options).items()
        if name not in ("out", "resume", "cache")
    }
    identity["evolutions"] = str([task.evolutions[kind] for kind in options.kinds])
    if task.scales:
        identity["scales"] = str(task.scales)
    with RunFolder(out, identity, resume=options.resume) as folder:
        num_networks = len(options.kinds) * options.networks  # type: ignore
        num_bonuses = sum(len(baselines(task, options, row)) for row in options.rows)
        total = num_networks * (2 + len(options.rows)) + num_bonuses
        cells = Cells(folder, total)
        for kind in options.kinds:
            for seed in seeds(options):
                evolve(task, options, kind, seed, cells)
                choose(task, options, kind, seed, cells)
        for name in options.rows:
            curves_of_row(task, options, name, cells)
        summary = summarize(task, options, cells.done)
        folder.write_json("summary.json", summary)
        write_best(folder.path, task, cells.done, summary)
        pictures.draw_curves(folder.path / "curves.png", task, summary)
        if options.task == "cliff":
            networks = {
                kind: [load(path(folder, kind, seed)) for seed in seeds(options)]
                for kind in options.kinds
            }
            pictures.draw_cliff(folder.path / "cliff.png", networks)
    print_costs(options, cells.done)
    print_table(task, options, summary)
    print(f"results in {out}")


def command(options: Options) -> str:
    """The command line that repeats a run."""
    words = [f"python -m benchmarks.reward_networks --task {options.task}"]
    defaults = Options(options.task, full=options.full).complete(TASKS[options.task])
    for field in dataclasses.fields(Options):
        value = getattr(options, field.name)
        if field.name in ("task", "out", "resume", "cache") or value == getattr(
            defaults, field.name
        ):
            continue
        flag = "--" + field.name.replace("_", "-")
        if value is False:
            words.append(f"--no-{field.name}")
            continue
        values = value if isinstance(value, tuple) else (value,)
        words.append(f"{flag} {' '.join(map(str, values))}")
    return " ".join(words) + (" --full" if options.full else "")


def seeds(options: Options) -> range:
    """Evolution seeds."""
    return range(options.seed, options.seed + options.networks)  # type: ignore


def path(folder: RunFolder, kind: str, seed: int) -> Path:
    """The file of an evolved network."""
    return folder.path / f"{kind}-{seed}.npz"


def load(file: Path) -> tuple[RewardEnv, Any]:
    """An evolved network, as an environment."""
    return jaxrl_se.load(file)  # type: ignore


def evolve(
    task: RewardTask, options: Options, kind: str, seed: int, cells: Cells
) -> None:
    """Evolves one network and saves it; the cell is what it cost."""
    asked = {
        "max_generations": options.generations,
        "population_size": options.population,
        "train_steps": options.train_steps,
    }
    config = task.evolutions[kind].replace(
        **{k: v for k, v in asked.items() if v is not None}
    )

    def measure() -> dict[str, Any]:
        result = jaxrl_se.evolve(
            task.evolution_pair(kind),
            config.replace(scoring=config.scoring.for_task(solved(task))),
            seed,
            on_generation=cells.progress,
            mesh=runtime.mesh_that_divides(config.population_size),
        )
        progress = result.progress
        report = {
            "kind": kind,
            "command": command(options),
            "seed": seed,
            "scoring": type(config.scoring).__name__,
            "strategy": str(config.strategy),
            "population_size": config.population_size,
            "train_steps": config.train_steps,
            "generations": progress.generation,
            "solved": progress.solved,
            "fitness_mean": progress.rows[-1]["fitness_mean"],
            "cpu_seconds": progress.cpu_seconds,
            "compile_seconds": result.compile_seconds,
            **progress.steps.as_dict(),
            "validation": result.validation,
            "failed_candidates": progress.failed_candidates,
        }
        shape = dataclasses.replace(result.env.config, scale=task.scales.get(kind, 1.0))
        env, params = shape.make(*task.pair(task.rows["same"].repeat))
        params = params.replace(weights=result.params.weights)
        file = path(cells.folder, kind, seed)
        jaxrl_se.save(file, env, params, task=task.task, card=report)
        return report

    cells.fill(f"evolution/{kind}/{seed}", measure)


def solved(task: RewardTask) -> float | None:
    """The task's threshold."""
    import envs

    return envs.solved_return(task.task)


def choose(
    task: RewardTask, options: Options, kind: str, seed: int, cells: Cells
) -> None:
    """The score by which the best network is chosen: the mean of its agents' curves."""

    def measure() -> float:
        pair = with_repeat(task, load(path(cells.folder, kind, seed)), "same")
        key = jax.random.fold_in(jax.random.key(options.seed), _CHOOSE)
        assert options.steps is not None, "options are complete"
        assert options.agents is not None, "options are complete"
        steps = min(task.chosen_at, options.steps)
        curves = train(
            task,
            task.rows["same"],
            task.rows["same"].agent,
            pair,
            key,
            steps,
            options.agents,
        )
        return float(np.mean(curves))

    cells.fill(f"choice/{kind}/{seed}", measure)


def with_repeat(task: RewardTask, pair: tuple[RewardEnv, Any], row: str):
    """The network around the task as a row's agent sees it."""
    env, params = pair
    repeat = task.rows[row].repeat
    if repeat == task.rows["same"].repeat:
        return env, params
    return env.config.make(*task.pair(repeat))[0], params


def baselines(task: RewardTask, options: Options, row: str) -> dict[str, Any]:
    """The agents of a row that train on the task itself, by name."""
    bonuses = task.rows[row].bonuses if options.bonuses else {}
    return {NO_NETWORK: task.rows[row].agent, **bonuses}


def curves_of_row(task: RewardTask, options: Options, name: str, cells: Cells) -> None:
    """Trains a row's agents in everything that the table compares."""
    row, num_steps = task.rows[name], options.steps
    assert num_steps is not None, "options are complete"
    num_agents = options.agents
    assert num_agents is not None, "options are complete"
    real = task.pair(row.repeat)
    key = jax.random.fold_in(jax.random.key(options.seed), _REPORT)

    def measure(agent, pair, index):
        own_key = jax.random.fold_in(key, index)
        curves = train(task, row, agent, pair, own_key, num_steps, num_agents)
        return np.round(curves, 3).tolist()

    for agent_name, agent in baselines(task, options, name).items():
        cells.fill(
            f"curves/{name}/{agent_name}",
            lambda agent=agent: measure(agent, real, 0),
        )
    for kind in options.kinds:
        for seed in seeds(options):
            cells.fill(
                f"curves/{name}/{kind}/{seed}",
                lambda kind=kind, seed=seed: measure(
                    row.agent,
                    with_repeat(task, load(path(cells.folder, kind, seed)), name),
                    1 + seed,
                ),
            )


def train(
    task: RewardTask,
    row: Row,
    agent: Any,
    pair: tuple[Any, Any],
    key: jax.Array,
    num_steps: int,
    num_agents: int,
) -> np.ndarray:
    """Test returns `[num_agents, num_points]` on the real task, along training."""
    real_env, real_params = task.pair(row.repeat)
    num_points = num_steps // task.resolution
    test = TaskTest(real_params, env=real_env, num_points=num_points)
    result = jaxrl_se.train(
        agent,
        pair[0],
        pair[1],
        key,
        num_steps // row.repeat,
        num_agents=num_agents,
        test=test,
    )
    return np.asarray(result.tests.curve, np.float64)  # type: ignore


def summarize(task: RewardTask, options: Options, done: dict) -> dict[str, Any]:
    """Means and intervals at the table's steps, and mean curves.

    Intervals are bootstraps over whole networks, as agents of one are not independent;
    for baselines, and for the best network, over agents.
    """
    points = [p for p in task.points if p <= options.steps] or [options.steps]  # type: ignore
    columns = [p // task.resolution - 1 for p in points]  # type: ignore
    best = {
        kind: max(seeds(options), key=lambda seed: done[f"choice/{kind}/{seed}"])
        for kind in options.kinds
    }
    rows: dict[str, Any] = {}
    for name in options.rows:
        table: dict[str, Any] = {}
        for column in baselines(task, options, name):
            curves = np.array(done[f"curves/{name}/{column}"])
            table[column] = _cell(curves, columns)
        for kind in options.kinds:
            curves = np.array(
                [done[f"curves/{name}/{kind}/{seed}"] for seed in seeds(options)]
            )
            table[kind] = _cell(curves.mean(axis=1), columns)
            table[kind]["networks"] = curves.mean(axis=1)[:, columns].tolist()
            chosen = _cell(curves[best[kind] - options.seed], columns)
            table[f"{kind}, best"] = chosen | {"seed": best[kind]}
        rows[name] = table
    steps = np.arange(1, options.steps // task.resolution + 1) * task.resolution  # type: ignore
    return {"points": points, "steps": steps.tolist(), "best": best, "rows": rows}


def _cell(curves: np.ndarray, columns: list[int]) -> dict[str, Any]:
    return {
        "mean": curves[:, columns].mean(axis=0).tolist(),
        "ci95": [list(bootstrap_ci95(curves[:, c])) for c in columns],
        "curve": curves.mean(axis=0).tolist(),
        "curve_std_error": (curves.std(axis=0) / np.sqrt(len(curves))).tolist(),
    }


def print_costs(options: Options, done: dict) -> None:
    """Prints what the evolutions cost, kind by kind."""
    for kind in options.kinds:
        runs = [done[f"evolution/{kind}/{seed}"] for seed in seeds(options)]
        cpu = sum(r["cpu_seconds"] for r in runs)
        steps = np.mean([r["real_steps"] for r in runs])
        generations = np.mean([r["generations"] for r in runs])
        print(
            f"{kind}: {len(runs)} networks in {cpu:.1f} CPU-s "
            f"(+ {sum(r['compile_seconds'] for r in runs):.0f} s compiling), "
            f"{generations:.0f} generations of {runs[0]['population_size']} and "
            f"{steps:,.0f} real steps each"
        )


def print_table(task: RewardTask, options: Options, summary: dict) -> None:
    """Prints a line per row and column, with the published means in brackets."""
    header = "".join(f"{p:>28,}" for p in summary["points"])
    for name in summary["rows"]:
        print(f"{name}: {describe(task.rows[name])}")
    print(f"{'agent':<8}{'trained with':<32}{header}")
    for name, table in summary["rows"].items():
        for column, cell in table.items():
            published = task.rows[name].published.get(column, ())
            text = ""
            for index, (mean, (low, high)) in enumerate(
                zip(cell["mean"], cell["ci95"], strict=True)
            ):
                known = f" ({published[index]:g})" if index < len(published) else ""
                text += f"{f'{mean:.1f} [{low:.1f}, {high:.1f}]{known}':>28}"
            print(f"{name:<8}{column:<32}{text}")
    print("mean [95 % interval] (published); best: chosen by other agents")


def main() -> None:
    """Parses the command line and runs the benchmark."""
    started = time.process_time()
    run(tyro.cli(Options, description=__doc__))
    print(f"{time.process_time() - started:.0f} CPU-s in all", file=sys.stderr)

"""One-shot world models: errors, agents trained only inside, and speed, on seven tasks.

python -m benchmarks.oswm
python -m benchmarks.oswm --context mine.npz --queries held_out.npz

(a) one-step errors, roll-outs and calibration; (b) the real return of agents that are
trained in the model of 1,000 transitions and see the real task only to be tested, at
the end of training, with one context and one agent per seed; (c) speed; and
errors on synthetic tasks that are held out from training (of single kernels with
"--parts kernels"). "--parts unseen" trains agents at their defaults in models of five
tasks that nothing was chosen on. With --context
and --queries, both written by `envs.Transitions.save`, only (a), on these.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from benchmarks.oswm import (
    agents,
    evolved,
    held_out,
    kernels,
    one_step,
    pictures,
    speed,
    unseen,
)
from benchmarks.oswm.data import Data
from benchmarks.oswm.models import MODELS, OTHER_MODELS
from benchmarks.oswm.tasks import KINDS, TASKS
from benchmarks.shared import runtime
from benchmarks.shared.cells import Cells
from envs import Transitions
from jaxrl_runs.run_folder import RunFolder, next_run_folder

Part = Literal[
    "one-step",
    "held-out",
    "kernels",
    "agents",
    "planning",
    "speed",
    "evolved",
    "unseen",
    "pictures",
]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the one-shot world model benchmark.

    Attributes:
      parts: What to measure.
      tasks: On which tasks; Reacher-v5 needs the extra "mujoco".
      models: World models of part (a) and of agents; those that are not in the tables
        by default are held-out tasks' too.
      contexts: Contexts per task and kind in part (a), and per unseen task.
      kinds: Policies of the contexts' rows in part (a).
      asked: Policies of the rows that are predicted in part (a).
      synthetic: Synthetic tasks that are held out from training.
      seeds: Contexts, each with an agent of its own, in part (b).
      planned: Contexts that are planned in, two episodes each.
      episodes: Test episodes per agent.
      context: Transitions of your own that models are conditioned on.
      queries: Transitions of your own that models are asked for.
      first_seed: Seed of the first context.
      out: Folder of the run; without it, the next numbered one under runs/.
      resume: Continue the run that --out holds; options may add to it.
      quick: One context, one agent, short timings: to see it run.
      cache: Keep compiled programs in the user's cache folder.
    """

    parts: tuple[Part, ...] = (
        "one-step",
        "held-out",
        "agents",
        "planning",
        "speed",
        "pictures",
    )
    tasks: tuple[str, ...] = tuple(TASKS)
    models: tuple[str, ...] = MODELS
    contexts: int = 5
    kinds: tuple[Literal["random", "mixed", "expert"], ...] = KINDS
    asked: tuple[Literal["random", "half", "expert"], ...] = one_step.QUERIES
    synthetic: int = 96
    seeds: int = 10
    planned: int = 3
    episodes: int = 100
    context: Path | None = None
    queries: Path | None = None
    first_seed: int = 0
    out: Path | None = None
    resume: bool = False
    quick: bool = False
    cache: bool = True

    def __post_init__(self):
        for name in ("contexts", "seeds", "planned", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1")
        for name, known in (("tasks", TASKS), ("models", (*MODELS, *OTHER_MODELS))):
            for value in getattr(self, name):
                if value not in known:
                    raise ValueError(
                        f"--{name} must be of {', '.join(known)}, got {value!r}"
                    )
        if (self.context is None) != (self.queries is None):
            raise ValueError("--context and --queries go together")
        if self.resume and self.out is None:
            raise ValueError("--resume needs --out, the folder of the run to continue")


def run(options: Options) -> None:
    """Measures cell by cell and prints the tables."""
    if options.cache:
        runtime.use_compilation_cache()
    if options.quick:
        options = dataclasses.replace(
            options, contexts=1, synthetic=6, seeds=1, planned=1, episodes=10
        )
    out = options.out or next_run_folder("runs/oswm")
    identity = {"first_seed": options.first_seed, "episodes": options.episodes}
    with RunFolder(out, identity, resume=options.resume) as folder:
        cells = Cells(folder)
        if options.context is not None and options.queries is not None:
            summary = own_transitions(options, options.context, options.queries)
        else:
            summary = all_tasks(options, folder, cells)
        folder.write_json("summary.json", {"options": _strings(options), **summary})
    print(f"results in {out}")


def _others(models: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in models if name in OTHER_MODELS)


def own_transitions(options: Options, context: Path, queries: Path) -> dict[str, Any]:
    """Part (a) for files of the user's own."""
    rows, asked = Transitions.load(context), Transitions.load(queries)
    results = one_step.compare_files(rows, asked, options.models)
    names = [
        f"obs {i}"
        for i in range(len(next(iter(results.values()))["per_dimension"]) - 1)
    ]
    print(
        f"{'model':<17}{'mean':>10}" + "".join(f"{x:>10}" for x in (*names, "reward"))
    )
    for name, row in results.items():
        each = "".join(f"{value:>10.1e}" for value in row["per_dimension"])
        print(f"{name:<17}{row['mean']:>10.1e}{each}")
    print("squared error over the column's variance in --context")
    return {
        "one_step_error": {k: v["per_dimension"] for k, v in results.items()},
        "one_step_mean": {k: v["mean"] for k, v in results.items()},
        "coverage": {k: v["coverage"] for k, v in results.items()},
    }


def all_tasks(options: Options, folder: RunFolder, cells: Cells) -> dict[str, Any]:
    """Every part, task by task."""
    summary: dict[str, Any] = {"one_step_error": {}, "agents": {}}
    curves = {}
    if "held-out" in options.parts:
        number = options.synthetic
        errors = {
            model: cells.fill(
                f"held-out/{number}/{model}",
                lambda model=model: held_out.measure(model, number),
            )
            for model in (*held_out.MODELS, *_others(options.models))
        }
        summary["held_out"] = held_out.print_table(errors)
    if "kernels" in options.parts:
        number = options.synthetic
        summary["kernels"] = kernels.print_table(
            cells.fill(f"kernels/{number}", lambda: kernels.measure(number))
        )
    for name in options.tasks:
        task = TASKS[name]
        if not task.is_jax and importlib.util.find_spec("mujoco") is None:
            print(f"{name}: not installed: pip install 'jaxrl-se[mujoco]'")
            continue
        data = Data(task)
        if "one-step" in options.parts:
            errors = one_step_of(options, name, data, cells)
            summary["one_step_error"][name] = errors["summary"]
            if "random" in errors:
                curves[name] = errors["random"]
        if "agents" in options.parts or "planning" in options.parts:
            summary["agents"][name] = agents_of(options, name, data, cells)
        if "pictures" in options.parts:
            path = folder.path / f"{name}.png"
            pictures.trajectories(path, task, data, options.models[0])
    if "one-step" in options.parts:
        one_step.print_comparison(summary["one_step_error"], options.models)
    if "pictures" in options.parts and curves:
        pictures.error_curves(folder.path / "errors.png", curves, options.models)
    if "speed" in options.parts:
        summary["speed"] = cells.fill(
            "speed", lambda: speed.measure(options.models, options.quick)
        )
        speed.print_table(summary["speed"])
    if "evolved" in options.parts:
        summary["evolved"] = cells.fill(
            "evolved", lambda: evolved.measure(options.seeds, options.quick)
        )
        evolved.print_table(summary["evolved"])
    if "unseen" in options.parts:
        summary["unseen"] = unseen_of(options, cells)
    return summary


def unseen_of(options: Options, cells: Cells) -> dict[str, Any]:
    """Agents at their defaults in models of tasks that nothing was chosen on."""
    seeds = range(options.first_seed, options.first_seed + options.contexts)
    found: dict[str, dict[str, list[Any]]] = {}
    for model in (*options.models, unseen.ITSELF):
        found[model] = {}
        for task in unseen.TASKS:
            found[model][task] = [
                cells.fill(
                    f"unseen/{task}/{model}/{seed}",
                    lambda task=task, model=model, seed=seed: unseen.measure(
                        task, model, seed, options.quick
                    ),
                )
                for seed in seeds
            ]
            jax.clear_caches()  # Programs of many tasks exhaust memory maps.
    return unseen.print_table(found)


def one_step_of(
    options: Options, name: str, data: Data, cells: Cells
) -> dict[str, Any]:
    """Part (a) of one task."""
    results: dict[str, Any] = {"summary": {}}
    for kind in options.kinds:
        contexts = []
        for seed in range(options.first_seed, options.first_seed + options.contexts):
            row = {}
            for model in options.models:
                row |= cells.fill(
                    f"one-step/{name}/{kind}/{seed}/{model}",
                    lambda kind=kind, seed=seed, model=model: one_step.measure(
                        TASKS[name], data, kind, seed, (model,), options.asked
                    ),
                )
            contexts.append(row)
        one_step.print_table(name, kind, contexts, options.models, options.asked)
        results[kind] = contexts
        results["summary"][kind] = {
            model: {
                query: one_step.mean_errors(contexts, model, query)[0]
                for query in options.asked
            }
            for model in options.models
        }
    return results


def agents_of(options: Options, name: str, data: Data, cells: Cells) -> dict[str, Any]:
    """Part (b) of one task."""
    task = TASKS[name]
    table: dict[str, Any] = {}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if "agents" in options.parts:
        for model in options.models:
            rows = [
                cells.fill(
                    f"agents/{name}/{model}/{seed}",
                    lambda model=model, seed=seed: agents.train_and_test(
                        task, data, model, seed, options.episodes
                    ),
                )
                for seed in seeds
            ]
            table[model] = agents.summarize(rows)
    if "planning" in options.parts:
        rows = [
            cells.fill(
                f"planning/{name}/{seed}",
                lambda seed=seed: agents.plan_and_test(
                    task, data, options.models[0], seed
                ),
            )
            for seed in seeds[: options.planned]
        ]
        table["planning, no agent"] = agents.summarize(rows)
    table |= cells.fill(
        f"references/{name}",
        lambda: agents.reference_scores(task, options.episodes),
    )
    real_steps = 0
    if task.context != "random":
        real_steps = task.expert_rows or task.expert_steps * task.expert_repeat
        table["expert, in the real task"] = cells.fill(
            f"expert/{name}",
            lambda: float(agents.test(data.expert, task, 0, options.episodes).mean()),
        )
    agents.print_table(task, table, real_steps)
    return table


def _strings(options: Options) -> dict[str, str]:
    return {name: str(value) for name, value in dataclasses.asdict(options).items()}


def main() -> None:
    """Parses the command line and runs the benchmark."""
    run(tyro.cli(Options, description=__doc__))

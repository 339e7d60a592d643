"""One environment for a family of CartPoles, and one for the usual CartPole alone.

Pole lengths and gravities vary. One environment is evolved on all of them and reads
them; for every cell of a grid it gives one of that cell's own, in which unseen agents
train, and they are tested in the cell's CartPole. Beside it an environment evolved in
the same way on the usual CartPole, and the shipped one.

python -m benchmarks.family --seed 0
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
from benchmarks.shared import runtime
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se.defaults import Budget
from jaxrl_se.unseen import play_with_unseen

TASK = "CartPole-v1"
RANGES = {"length": (0.25, 1.0), "gravity": (5.0, 15.0)}
_TEST = 78  # Folded into the seed's key; evolution has others.


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
      seed: Seed of everything.
      real_steps: Steps in the tasks of each evolution, about.
      side: Cells of the grid along each of the two params.
      agents: Unseen agents of each of three kinds in every cell.
      episodes: Test episodes of each agent.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    seed: int = 0
    real_steps: int = Budget().real_steps
    side: int = 5
    agents: int = 2
    episodes: int = 10
    out: Path | None = None
    cache: bool = True


def with_products(params: Any) -> Any:
    """Params whose product of the pole's mass and length follows these."""
    return params.replace(polemass_length=params.masspole * params.length)


def grid(side: int) -> list[dict[str, float]]:
    """Cells that lie evenly over the ranges, ends included."""
    axes = [np.linspace(*ends, side) for ends in RANGES.values()]
    names = list(RANGES)
    cells = itertools.product(*axes)
    return [dict(zip(names, map(float, cell), strict=True)) for cell in cells]


def test(
    pairs: list[tuple[Any, Any]], cells: list[dict[str, float]], options: Options
) -> list[list[float]]:
    """Returns of unseen agents in each cell's CartPole, [cell][agent].

    Args:
      pairs: What the agents of each cell train in.
      cells: Values of the params.
      options: How many agents and episodes.
    """
    env, params = envs.make(TASK)
    found = []
    for place, (pair, cell) in enumerate(zip(pairs, cells, strict=True)):
        task = envs.open_task((env, with_products(params.replace(**cell))))
        key = jax.random.fold_in(jax.random.key(options.seed), _TEST)
        returns, _ = play_with_unseen(
            pair,
            task,
            jax.random.fold_in(key, place),
            num_agents=options.agents,
            num_episodes=options.episodes,
        )
        found.append([each for kind in returns.values() for each in kind])
    return found


def measure(options: Options) -> dict[str, Any]:
    """Evolves, tests and summarises."""
    cells, budget = grid(options.side), Budget(options.real_steps)
    family, ranges = envs.family(TASK, RANGES, finish=with_products)
    print("evolving for the family", flush=True)
    both = jaxrl_se.evolve((family, ranges), key=options.seed, budget=budget)
    print("evolving for the usual CartPole", flush=True)
    usual = jaxrl_se.evolve(envs.make(TASK), key=options.seed, budget=budget)
    members = [
        jaxrl_se.member(both.env, both.params, family.seen(ranges, cell))
        for cell in cells
    ]
    rows = {
        "one for the family": (members, both.progress),
        "one for the usual CartPole": (
            [(usual.env, usual.params)] * len(cells),
            usual.progress,
        ),
        "the shipped one": ([jaxrl_se.load(TASK)] * len(cells), None),
    }
    found = {}
    for name, (pairs, progress) in rows.items():
        found[name] = _row(test(pairs, cells, options)) | {
            "real_steps": None if progress is None else progress.real_steps,
            "cpu_seconds": None if progress is None else progress.cpu_seconds,
        }
        row = found[name]
        low, high = row["ci95"]
        print(
            f"{name:28} mean {row['mean']:.1f} [{low:.1f}, {high:.1f}], worst cell "
            f"{row['worst_cell']:.1f}, worst agent {row['worst_agent']:.1f}",
            flush=True,
        )
    return {"cells": cells, "environments": found}


def _row(returns: list[list[float]]) -> dict[str, Any]:
    cells = np.mean(returns, axis=1)
    return {
        "mean": float(cells.mean()),
        "ci95": list(bootstrap_ci95(cells)),
        "worst_cell": float(cells.min()),
        "worst_agent": float(np.min(returns)),
        "returns": returns,
    }


def main() -> None:
    """Parses the command line, evolves, tests and saves."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/family")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    with RunFolder(out, identity) as folder:
        folder.write_json("summary.json", measure(options))
    print(f"results in {out}")

"""World models of tasks outside JAX: one-step errors, and agents that train inside.

Random rows, or rows of half-expert play (a coin decides at every step between the best
response of an evolved environment and chance), become an environment. Agents that know
only this environment, and d3rlpy's on the same rows, play the task.

python -m benchmarks.external_worlds --task Hopper-v5 --kind half
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
import oswm
from benchmarks.external.settings import SETTINGS, Settings, config_of
from benchmarks.external.simple_play import simple_returns
from benchmarks.external.tasks import task_to_learn
from benchmarks.logs import offline_rl
from benchmarks.oswm.data import Half
from benchmarks.oswm.models import MODELS, OTHER_MODELS, make_model
from benchmarks.oswm.one_step import errors
from benchmarks.shared import runtime
from benchmarks.shared.own_environment import environment
from envs import Transitions
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se import SAC
from jaxrl_se.zoo import available

NUM_QUERIES = 1000
_LOG, _QUERIES, _TRAIN, _TEST = 1_000, 5_000, 1, 2  # seeds, and purposes of keys
# Reacher's as in `benchmarks.oswm`: its goal is a few steps away.
_DISCOUNTS = {"Reacher-v5": 0.9}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      task: An id of Gymnasium's or EnvPool's, with continuous actions for d3rlpy's.
      kind: Of the rows, "random" or "half".
      rows: How many.
      seed: Of rows, agents and tests.
      models: Whose one-step errors are shown.
      inside: The model in which agents train.
      agents: How many of them.
      steps: Of each, inside.
      penalty: See `oswm.condition`, `uncertainty_penalty`.
      offline: Algorithms of d3rlpy's.
      updates: Gradient steps of each.
      python: An interpreter that has d3rlpy; by default its environment is made.
      expert: File of an evolved environment; by default the one that is shipped.
      episodes: Test episodes of each agent.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: str
    kind: Literal["random", "half"] = "random"
    rows: int = 5_000
    seed: int = 0
    models: tuple[str, ...] = ("persistence", "ridge", "kernel_ridge")
    inside: str = "kernel_ridge"
    agents: int = 3
    steps: int = 20_000
    penalty: float = 1.0
    offline: tuple[str, ...] = ("TD3PlusBC", "IQL")
    updates: int = 10_000
    python: Path | None = None
    expert: Path | None = None
    episodes: int = 20
    out: Path | None = None
    cache: bool = True

    def __post_init__(self):
        for name in ("rows", "agents", "steps", "updates", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name} must be at least 1, got {getattr(self, name)}"
                )
        unknown = {*self.models, self.inside} - {*MODELS, *OTHER_MODELS}
        if unknown:
            raise ValueError(
                f"--models and --inside must be among {MODELS + OTHER_MODELS}, got "
                f"{sorted(unknown)}"
            )


def expert_of(options: Options) -> Any | None:
    """The best response of an evolved environment of the task.

    None where random rows need no expert and no environment is shipped.
    """
    is_shipped = (options.task, "one-step") in available()
    if options.kind == "random" and options.expert is None and not is_shipped:
        return None
    env, params = jaxrl_se.load(options.expert or options.task)
    agent = config_of(SETTINGS.get(options.task, Settings())).agents[0]
    return jaxrl_se.train(agent, env, params, options.seed, 1).policy


def rows_of(
    task: envs.ExternalTask, expert: Any, kind: str, number: int, seed: int
) -> Transitions:
    """So many rows of a kind."""
    policy = None if kind == "random" else Half(expert, task.spaces)
    return envs.collect(task, number, seed, policy)


def measure(options: Options, task: envs.ExternalTask) -> dict[str, Any]:
    """Everything that is known of one log."""
    expert = expert_of(options)
    log = rows_of(task, expert, options.kind, options.rows, _LOG + options.seed)
    space = task.action_space()
    context = oswm.Context.of(log, space)
    queries = {
        kind: oswm.Context.of(
            rows_of(task, expert, kind, NUM_QUERIES, _QUERIES + options.seed),
            space,
        )
        for kind in ("random", *["half"] * (expert is not None))
    }
    found: dict[str, Any] = {"errors": {}, "returns": {}, "cpu_seconds": {}}
    for name in options.models:
        found["errors"][name] = {
            kind: errors(make_model(name), context, rows)["mean"]
            for kind, rows in queries.items()
        }
        print(f"{name}: {found['errors'][name]}", flush=True)
    key = jax.random.fold_in(jax.random.key(options.seed), _TEST)
    returns: dict[str, Any] = dict(simple_returns(task, key, options.episodes))
    if expert is not None:
        played, _ = task.play(expert, key, options.episodes, num_axes=0)
        returns["expert"] = played.returns
    for name, train in trainings(options, task, log).items():
        started = time.process_time()
        policy, num_axes, close, seconds = train()
        seconds = seconds or time.process_time() - started
        played, _ = task.play(policy, key, options.episodes, num_axes=num_axes)
        close()
        returns[name], found["cpu_seconds"][name] = played.returns, seconds
        print(f"{name}: {played.returns.mean():.1f}, {seconds:.0f} CPU-s", flush=True)
    for name, values in returns.items():
        found["returns"][name] = np.asarray(values, np.float64).tolist()
    return found


def trainings(options: Options, task: envs.ExternalTask, log: Transitions) -> dict:
    """By name: `() -> (policy, its axes, what closes it, CPU-seconds or None)`."""

    def inside():
        world = oswm.condition(
            log,
            task.action_space(),
            task.time_limit,
            model=make_model(options.inside),
            uncertainty_penalty=options.penalty,
        )
        agent = SAC(
            discount=_DISCOUNTS.get(options.task, 0.99),
            hidden_sizes=(64, 64),
            normalize_observations=True,
        )
        key = jax.random.fold_in(jax.random.key(options.seed), _TRAIN)
        trained = jaxrl_se.train(
            agent, *world, key, options.steps, num_agents=options.agents
        )
        return jax.block_until_ready(trained.policy), 1, lambda: None, None

    def offline(name: str):
        python = options.python or environment("d3rlpy", offline_rl.REQUIREMENTS)
        own = offline_rl.Options(
            options.task, seed=options.seed, updates=options.updates
        )
        agent = offline_rl.OfflineAgent.trained(
            python, log, task.action_space(), name, own
        )

        def policy(obs: Any, key: Any) -> np.ndarray:
            del key
            return agent.act(np.asarray(obs)[None])[0]

        return policy, 0, agent.close, agent.cpu_seconds

    found: dict[str, Any] = {f"SAC in {options.inside}": inside}
    return found | {
        f"d3rlpy {name}": lambda name=name: offline(name) for name in options.offline
    }


def main() -> None:
    """Parses the command line, measures and prints."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder(f"runs/{options.task}-worlds")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    task = task_to_learn(options.task)
    with RunFolder(out, identity) as folder:
        found = measure(options, task)
        folder.write_json("summary.json", {"options": identity, **found})
    task.close()
    for name, returns in found["returns"].items():
        # An agent is one draw, not each of its episodes.
        means = np.mean(returns, axis=-1) if np.ndim(returns) == 2 else returns
        low, high = bootstrap_ci95(np.asarray(means))
        print(f"{name:24}{np.mean(returns):10.1f} [{low:.1f}, {high:.1f}]")
    print(f"results in {out}")

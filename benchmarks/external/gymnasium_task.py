"""Evolves an environment for a task of Gymnasium's; agents trained only in it play it.

Candidates are played outside JAX, by EnvPool where it is installed, and unseen agents
of several kinds, after 10,000 steps in the result, by Gymnasium itself.

python -m benchmarks.gymnasium_task --task LunarLander-v3
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
from benchmarks.external.card import write_card
from benchmarks.external.settings import SETTINGS, Settings, agents_to_test, config_of
from benchmarks.external.simple_play import simple_returns
from benchmarks.external.tasks import task_to_learn, task_to_test
from benchmarks.shared import runtime
from envs.external import EngineName
from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se.defaults import whole_steps
from jaxrl_se.evolution_result import EvolutionResult

_TEST, _BEST_RESPONSE = 2_000_001, 2_000_002


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      task: One of `benchmarks.external.settings.SETTINGS`, or any id that Gymnasium or
        EnvPool has, which gets the settings of no task in particular. "brax/hopper" is
        Brax's (Liesen et al.'s budget, for a GPU; --generations and --population make
        it smaller).
      seed: Seed of the evolution and of everything else.
      generations: In the place of the settings' own.
      population: Likewise.
      steps: Training steps of test agents.
      agents: Test agents of each kind.
      episodes: Test episodes of each agent.
      engine: "envpool" or "gymnasium", which steps the candidates' episodes; by default
        the first if it is installed.
      threads: Of EnvPool.
      out: Folder of the run; without it, the next numbered one under runs/.
      resume: Continue the run that --out holds.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: str
    seed: int = 0
    generations: int | None = None
    population: int | None = None
    steps: int = 10_000
    agents: int = 7
    episodes: int = 10
    engine: EngineName | None = None
    threads: int = 1
    out: Path | None = None
    resume: bool = False
    cache: bool = True

    def __post_init__(self):
        for name in ("generations", "population", "steps", "agents", "episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
        if self.resume and self.out is None:
            raise ValueError("--resume needs --out, the folder of the run to continue")


def settings_of(options: Options) -> Settings:
    """The task's settings with what the command line says."""
    settings = SETTINGS.get(options.task, Settings())
    given = {
        name: getattr(options, name)
        for name in ("generations", "population")
        if getattr(options, name) is not None
    }
    return dataclasses.replace(settings, **given)


def evolve(options: Options, folder: RunFolder) -> tuple[EvolutionResult, Any]:
    """Evolves; also the task while learning, for what it has cost."""
    settings = settings_of(options)
    task = task_to_learn(
        options.task,
        engine=options.engine,
        threads=options.threads,
        lanes=settings.population * settings.episodes,
        **settings.learning_options,
    )
    config = config_of(settings)
    return jaxrl_se.evolve(task, config, options.seed, out=folder), task


def test(
    result: EvolutionResult, options: Options, task: envs.ExternalTask
) -> tuple[dict[str, Any], int]:
    """Mean returns of fresh agents of each kind, in the task, and synthetic steps."""
    agents = agents_to_test(task.spaces)
    num_steps = whole_steps(options.steps, tuple(agents.values()))
    key = jax.random.fold_in(jax.random.key(options.seed), _TEST)
    returns, taken = {}, 0
    for place, (kind, agent) in enumerate(agents.items()):
        key_train, key_test = jax.random.split(jax.random.fold_in(key, place))
        trained = jaxrl_se.train(
            agent,
            result.env,
            result.params,
            key_train,
            num_steps,
            num_agents=options.agents,
        )
        episodes, _ = task.play(trained.policy, key_test, options.episodes, num_axes=1)
        returns[kind] = np.asarray(episodes.returns, np.float64).mean(axis=1)
        taken += num_steps * options.agents
        print(
            f"{options.agents} {kind} after {num_steps:,} synthetic steps: "
            f"{returns[kind].mean():.1f}, worst {returns[kind].min():.1f}",
            flush=True,
        )
    key = jax.random.fold_in(key, _BEST_RESPONSE)
    response = jaxrl_se.train(
        result.config.agents[0], result.env, result.params, key, 1
    ).policy
    episodes, _ = task.play(response, key, 10 * options.episodes, num_axes=0)
    returns["best response"] = np.asarray(episodes.returns, np.float64)
    returns |= simple_returns(task, key, 2 * options.episodes)
    task.close()
    return returns, taken


def summary_of(
    options: Options,
    result: EvolutionResult,
    task: Any,
    returns: dict,
    taken: int,
    *,
    tested_by: str,
    test_cpu_seconds: float,
) -> dict[str, Any]:
    """What is kept of a run; `gymnasium_return_mean` is over agents of all kinds."""
    settings, progress, cost = settings_of(options), result.progress, task.cost
    others = ("best response", "random", "doing nothing")
    trained = {kind: x for kind, x in returns.items() if kind not in others}
    pooled = np.concatenate(list(trained.values()))
    worst = min(trained, key=lambda kind: trained[kind].mean())
    mean = float(pooled.mean())
    return {
        "task": options.task,
        "seed": options.seed,
        "gymnasium_return_mean": mean,
        "return_mean": mean,  # as every card has it
        "return_ci95": list(map(float, bootstrap_ci95(pooled))),
        "return_p10": float(np.percentile(pooled, 10)),
        "worst_kind": worst,
        "worst_kind_mean": float(trained[worst].mean()),
        "agents": len(pooled),
        "returns": {kind: values.tolist() for kind, values in trained.items()},
        "train_steps": options.steps,
        "test_episodes": options.episodes,
        "best_response_mean": float(returns["best response"].mean()),
        "random_mean": float(returns["random"].mean()),
        "doing_nothing_mean": float(returns["doing nothing"].mean()),
        "must": settings.must,
        "reaches_must": None if settings.must is None else mean >= settings.must,
        "validation": result.validation,
        "generations": progress.generation,
        "population_size": settings.population,
        "real_steps": progress.real_steps,
        "synthetic_steps": taken,
        "evolve_cpu_seconds": progress.cpu_seconds,
        "evolve_seconds": progress.seconds,
        # A resumed run has counted its evolution in other processes too.
        "cpu_seconds": progress.cpu_seconds + test_cpu_seconds,
        "tested_by": tested_by,
        "engine": task.engine,
        "engine_seconds": cost.engine_seconds,
        "policy_seconds": cost.policy_seconds,
        "num_weights": sum(
            int(np.size(leaf)) for leaf in jax.tree.leaves(result.params.weights)
        ),
        "params_sha256": tree_sha256(result.params),
        "command": f"python -m benchmarks.gymnasium_task --task {options.task} "
        f"--seed {options.seed}"
        + f" --generations {options.generations}" * (options.generations is not None)
        + f" --population {options.population}" * (options.population is not None),
    }


def main() -> None:
    """Parses the command line, evolves, tests, saves and prints."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/" + options.task.replace("/", "-"))
    identity = {
        name: str(value)
        for name, value in dataclasses.asdict(options).items()
        if name not in ("out", "resume", "cache")
    }
    with RunFolder(out, identity, resume=options.resume) as folder:
        result, task = evolve(options, folder)
        print(f"{result}\n  played outside: {task.cost}", flush=True)
        tested = task_to_test(options.task, options.threads)
        started = time.process_time()
        returns, taken = test(result, options, tested)
        summary = summary_of(
            options,
            result,
            task,
            returns,
            taken,
            tested_by=tested.engine,
            test_cpu_seconds=time.process_time() - started,
        )
        file_name = options.task.replace("/", "-")
        jaxrl_se.save(
            out / f"{file_name}.one-step.npz",
            result.env,
            result.params,
            task=options.task,
            card=summary,
        )
        write_card(out / f"{file_name}.one-step.md", summary)
        folder.write_json("summary.json", summary)
    for name in ("gymnasium_return_mean", "return_p10", "agents", "real_steps"):
        print(f"{name:<24}{summary[name]:,.1f}")
    print(f"results in {out}")

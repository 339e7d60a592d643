"""Evolved contexts: do they train better agents than the rows they started from?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import envs
import jaxrl_se
import oswm
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se import DDQN, EvolutionConfig

TASK = "CartPole-v0"
# Few enough that agents in the model of the rows as they are have not learned all.
CONFIG = EvolutionConfig(
    agent=DDQN(hidden_sizes=(64,), batch_size=32, max_grad_norm=None),
    train_steps=3_000,
    population_size=16,
    num_seeds=2,
    fitness_episodes=4,
    std=0.1,
    max_generations=20,
    stop_return=np.inf,
    validation_agents=16,
    validation_episodes=20,
)


def measure(num_agents: int, quick: bool = False) -> dict[str, Any]:
    """Evolves the context of 1,000 random steps and trains agents on both.

    Args:
        num_agents: Fresh agents for each, with keys that evolution never saw.
        quick: Two generations only.

    Returns:
        Scores of the agents with their means and intervals, and the real steps that
        evolution took beside the context's.
    """
    config = CONFIG.replace(max_generations=2) if quick else CONFIG
    task = envs.make(TASK)
    space = task[0].action_space(task[1])
    rows = envs.collect(task, 1000, 0)
    pair = oswm.condition(
        rows, space, 200, model=oswm.KernelRidge(), uncertainty_penalty=0.0
    )
    proxy = oswm.evolvable(rows, *pair)
    with tqdm(total=config.max_generations, desc="generations", disable=None) as bar:
        result = jaxrl_se.evolve(
            task, config, 0, proxy=proxy, on_generation=lambda _: bar.update()
        )
    raw = proxy[1]
    results: dict[str, Any] = dict(result.progress.steps.as_dict())
    for name, params in (("rows as they are", raw), ("evolved", result.params)):
        trained = jaxrl_se.train(
            config.agent,
            proxy[0],
            params,
            jax.random.key(4_321),
            config.train_steps,
            num_agents=num_agents,
        )
        same_episodes = jnp.broadcast_to(jax.random.key(1_234), (num_agents,))
        episodes = jaxrl_se.evaluate(trained.policy, task, same_episodes, 100)
        scores = np.mean(episodes.returns, axis=1, dtype=np.float64).tolist()
        results[name] = {
            "mean": float(np.mean(scores)),
            "ci95": list(bootstrap_ci95(np.array(scores))),
            "scores": scores,
        }
    return results


def print_table(results: dict[str, Any]) -> None:
    """One line for each context."""
    print(
        f"\n{TASK}: DDQN after {CONFIG.train_steps:,} steps inside; evolution took "
        f"{results['real_steps']:,} real steps beside the context's 1,000"
    )
    for name in ("rows as they are", "evolved"):
        low, high = results[name]["ci95"]
        print(f"{name:<26}{results[name]['mean']:>8.1f}  [{low:.1f}, {high:.1f}]")

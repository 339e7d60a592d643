"""Evolves a synthetic CartPole; agents trained only in it solve CartPole-v1.

python -m benchmarks.cartpole
"""

from __future__ import annotations

import dataclasses

import tyro

from benchmarks.synthetic.benchmark import Benchmark, Options, run
from jaxrl_se.agents import DDQN
from jaxrl_se.config import EvolutionConfig, SyntheticConfig

# Fast on the real task as well (a median of about 1,500 steps to 195 on CartPole-v0),
# so that the comparison with real training is not one with a slow agent.
AGENT = DDQN(
    learning_rate=1e-2, target_update_rate=0.05, epsilon_end=0.1, learning_starts=8
)

# Where random play has 96 % of its observations (`jaxrl_se.probe`), made symmetric.
VISITED = ((-0.17, 0.17), (-1.16, 1.16), (-0.19, 0.19), (-1.66, 1.66))

CARTPOLE = Benchmark(
    module="benchmarks.cartpole",
    task="CartPole-v1",
    easier="CartPole-v0",
    configs={
        # A reward linear in the observation, one per action, is enough for this task: 10
        # numbers. Being linear, it also keeps teaching when agents train a hundred times
        # longer than in evolution. Normal starts where the task itself is keep it sharp
        # for agents that act by sampling (see `benchmarks.any_agent`).
        "one-step": EvolutionConfig(
            proxy=SyntheticConfig(
                hidden_sizes=(), initial_states="normal", obs_range=VISITED
            ),
            agent=AGENT,
            train_steps=100,
            num_seeds=2,
            std=0.5,
            max_generations=200,
            stop_return=499.0,
        ),
        "multi-step": EvolutionConfig(
            proxy=SyntheticConfig(
                variant="multi-step", activation="relu", obs_range=None
            ),
            # Twenty-step episodes are truncated, never terminated: a shorter horizon
            # keeps the values of agents that train for long from drifting.
            agent=dataclasses.replace(AGENT, discount=0.9),
            train_steps=500,
            num_seeds=2,
            std=0.5,
            max_generations=200,
            stop_return=499.0,
        ),
    },
)


def main() -> None:
    """Parses the command line and runs the benchmark."""
    options = tyro.cli(Options, description=__doc__)
    run(CARTPOLE, options)

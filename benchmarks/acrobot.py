"""Evolves a synthetic Acrobot; agents trained only in it swing up the real one.

python -m benchmarks.acrobot
"""

from __future__ import annotations

import dataclasses

import tyro

from benchmarks import runtime
from benchmarks.synthetic import Benchmark, Options, run
from jaxrl_se.agents import DDQN
from jaxrl_se.config import EvolutionConfig, SyntheticConfig

AGENT = DDQN(
    learning_rate=1e-2, target_update_rate=0.05, epsilon_end=0.1, learning_starts=8
)

ACROBOT = Benchmark(
    module="benchmarks.acrobot",
    task="Acrobot-v1",
    configs={
        "one-step": EvolutionConfig(
            proxy=SyntheticConfig(hidden_sizes=()),
            agent=AGENT,
            train_steps=200,
            num_seeds=4,
            fitness_episodes=2,
            max_generations=100,
            stop_return=-82.0,
        ),
        "multi-step": EvolutionConfig(
            proxy=SyntheticConfig(variant="multi-step", activation="relu"),
            agent=dataclasses.replace(AGENT, discount=0.9),
            train_steps=500,
            num_seeds=2,
            fitness_episodes=2,
            max_generations=100,
            stop_return=-85.0,
        ),
    },
    curve_steps=10_000,
)


def main() -> None:
    """Parses the command line and runs the benchmark."""
    options = tyro.cli(Options, description=__doc__)
    run(ACROBOT, options)


if __name__ == "__main__":
    runtime.run(main)

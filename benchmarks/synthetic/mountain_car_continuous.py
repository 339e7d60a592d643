"""Evolves a synthetic MountainCarContinuous; agents drive up with little power.

python -m benchmarks.mountain_car_continuous
"""

from __future__ import annotations

import dataclasses

import tyro

from benchmarks.synthetic.benchmark import Benchmark, Options, run
from jaxrl_se.agents import DDPG, BestResponse
from jaxrl_se.config import EvolutionConfig, SyntheticConfig

AGENT = DDPG(
    learning_rate=5e-3,
    target_update_rate=0.05,
    exploration_noise=0.5,
    learning_starts=8,
    hidden_sizes=(32, 32),
    activation="tanh",
    batch_size=32,
)

MOUNTAIN_CAR_CONTINUOUS = Benchmark(
    module="benchmarks.mountain_car_continuous",
    task="MountainCarContinuous-v0",
    configs={
        "one-step": EvolutionConfig(
            proxy=SyntheticConfig(hidden_sizes=(), initial_states="normal"),
            # The limit of training finds the reward; agents that train come after.
            agent=(BestResponse(()), AGENT),
            algorithms="stages",
            stages=(60,),
            train_steps=1000,
            population_size=64,
            num_seeds=2,
            fitness_episodes=4,
            std=1.0,
            max_generations=100,
            stop_return=96.0,
        ),
        "multi-step": EvolutionConfig(
            proxy=SyntheticConfig(
                variant="multi-step",
                hidden_sizes=(),
                initial_states="normal",
                # In episodes of 20 steps agents learn less: 81 instead of 94.
                max_steps=5,
            ),
            # The first stage finds a reward, the second the states that agents visit.
            agent=(BestResponse(()), dataclasses.replace(AGENT, discount=0.5)),
            algorithms="stages",
            stages=(60,),
            train_steps=1000,
            population_size=64,
            num_seeds=1,
            fitness_episodes=4,
            std=1.0,
            max_generations=80,
            stop_return=92.0,
        ),
    },
    curve_steps=10_000,
)


def main() -> None:
    """Parses the command line and runs the benchmark."""
    options = tyro.cli(Options, description=__doc__)
    run(MOUNTAIN_CAR_CONTINUOUS, options)

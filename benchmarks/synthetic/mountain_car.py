"""Evolves a synthetic MountainCar; agents trained only in it drive up the real hill.

python -m benchmarks.mountain_car
"""

from __future__ import annotations

import dataclasses

import tyro

from benchmarks.synthetic.benchmark import Benchmark, Options, run
from benchmarks.synthetic.cartpole import AGENT
from jaxrl_se.agents import BestResponse
from jaxrl_se.config import EvolutionConfig, SyntheticConfig

# Around the valley, as fast as cars get there. Learned ones, which the evolution needs,
# are twice as wide and make sampled actions doubtful (`docs/results/any_task.md`).
STARTS = ((-0.6, -0.2), (-0.05, 0.05))

MOUNTAIN_CAR = Benchmark(
    module="benchmarks.mountain_car",
    task="MountainCar-v0",
    configs={
        "one-step": EvolutionConfig(
            proxy=SyntheticConfig(hidden_sizes=()),
            agent=AGENT,
            train_steps=300,
            num_seeds=2,
            fitness_episodes=4,
            max_generations=150,
            stop_return=-107.0,
        ),
        "multi-step": EvolutionConfig(
            # In episodes of 20 steps agents learn less: -130 instead of -117.
            proxy=SyntheticConfig(variant="multi-step", hidden_sizes=(), max_steps=3),
            agent=dataclasses.replace(AGENT, discount=0.2),
            train_steps=300,
            num_seeds=2,
            fitness_episodes=4,
            max_generations=250,
            stop_return=-112.0,
        ),
    },
    curve_steps=10_000,
    starts=STARTS,
    # Agents now learn the best response to the bit; a search without them makes it
    # a better one.
    polish=EvolutionConfig(
        agent=BestResponse(()),
        train_steps=1,
        population_size=64,
        num_seeds=1,
        fitness_episodes=16,
        std=0.05,
        max_generations=150,
        stop_return=float("inf"),
    ),
)


def main() -> None:
    """Parses the command line and runs the benchmark."""
    options = tyro.cli(Options, description=__doc__)
    run(MOUNTAIN_CAR, options)

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
    learning_rate=1e-2,
    target_update_rate=0.05,
    epsilon_end=0.1,
    learning_starts=8,
    max_grad_norm=None,
    hidden_sizes=(64,),
    batch_size=32,
)

# Five times as far as the task's episodes start. Where random play goes, falling poles
# turn so fast (1.66) that little else matters to the reward, and agents which act by
# sampling stay undecided about a pole that stands (`docs/results/any_task.md`).
AROUND_THE_START = ((-0.25, 0.25),) * 4

CARTPOLE = Benchmark(
    module="benchmarks.cartpole",
    task="CartPole-v1",
    easier="CartPole-v0",
    configs={
        # A reward linear in the observation, one per action, is enough for this task:
        # 10 numbers. Being linear, it also keeps teaching when agents train a hundred
        # times longer than in evolution. Normal starts where the task itself is keep it
        # sharp for agents that act by sampling (see `benchmarks.any_agent`).
        "one-step": EvolutionConfig(
            proxy=SyntheticConfig(
                hidden_sizes=(), initial_states="normal", obs_range=AROUND_THE_START
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

"""Evolves a synthetic Acrobot; agents trained only in it swing up the real one.

python -m benchmarks.acrobot
"""

from __future__ import annotations

import dataclasses

import tyro

from benchmarks.synthetic.benchmark import Benchmark, Options, run
from jaxrl_se.agents import DDQN, BestResponse
from jaxrl_se.config import EvolutionConfig, SyntheticConfig
from jaxrl_se.hyperparameters import Choice, Varied

AGENT = DDQN(
    learning_rate=3e-3,
    target_update_rate=0.05,
    epsilon_end=0.1,
    learning_starts=8,
    max_grad_norm=None,
    hidden_sizes=(64, 64),
    batch_size=32,
    activation="tanh",
)

# Cosines and sines, then velocities (rad/s) as they occur: the observation space allows
# four times as much, where agents would waste their training.
OBS_RANGE = ((-1.0, 1.0),) * 4 + ((-4.0, 4.0), (-8.0, 8.0))

# Evolved over wider ones, set afterwards: where rewards differ less than they do in the
# task, agents that act by sampling end decided (`docs/results/any_task.md`).
STARTS = ((-0.5, 0.5),) * 4 + ((-1.0, 1.0), (-2.0, 2.0))

ACROBOT = Benchmark(
    module="benchmarks.acrobot",
    task="Acrobot-v1",
    configs={
        "one-step": EvolutionConfig(
            proxy=SyntheticConfig(
                hidden_sizes=(), initial_states="normal", obs_range=OBS_RANGE
            ),
            # The limit of training finds the reward. What agents that train say comes
            # after, with learning rates over a decade: what slow ones learn, agents of
            # other algorithms learn too.
            agent=(
                BestResponse(()),
                Varied.of(AGENT, learning_rate=Choice((1e-2, 3e-3, 1e-3))),
            ),
            algorithms="stages",
            stages=(200,),
            train_steps=500,
            population_size=64,
            num_seeds=1,
            fitness_episodes=8,
            max_generations=240,
            stop_return=-82.0,
        ),
        "multi-step": EvolutionConfig(
            proxy=SyntheticConfig(
                variant="multi-step", activation="relu", obs_range=OBS_RANGE
            ),
            agent=dataclasses.replace(AGENT, discount=0.9),
            train_steps=500,
            num_seeds=2,
            fitness_episodes=2,
            max_generations=100,
            stop_return=-85.0,
        ),
    },
    curve_steps=10_000,
    starts=STARTS,
)


def main() -> None:
    """Parses the command line and runs the benchmark."""
    options = tyro.cli(Options, description=__doc__)
    run(ACROBOT, options)

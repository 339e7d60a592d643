"""Learning curves of agents with convolutions, on one task of pictures.

    python -m benchmarks.picture_tasks Breakout-MinAtar
    python -m benchmarks.picture_tasks Catch-bsuite

One agent; a row for each tenth of its training, with the mean return of 32 test
episodes, in which it acts without noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import gymnax

import jaxrl_se


@dataclasses.dataclass(frozen=True)
class Setting:
    """How an agent is trained.

    Attributes:
      agent: An algorithm with its hyperparameters.
      num_steps: Environment steps.
      goal: The return that it should reach.
    """

    agent: Any
    num_steps: int
    goal: float


SETTINGS = {
    "Breakout-MinAtar": Setting(
        jaxrl_se.PPO(
            network="cnn",
            learning_rate=5e-3,
            num_envs=64,
            rollout_steps=128,
            num_epochs=4,
            num_minibatches=8,
        ),
        num_steps=64 * 128 * 31,
        goal=15.0,
    ),
    "Catch-bsuite": Setting(
        jaxrl_se.DDQN(network="cnn", epsilon_steps=700, target_update_rate=0.02),
        num_steps=2000,
        goal=0.9,
    ),
}


def run(name: str, num_steps: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Trains an agent and prints its learning curve.

    Args:
      name: A key of `SETTINGS`.
      num_steps: Environment steps, by default the setting's.
      seed: Of everything.

    Returns:
      The rows of `jaxrl_se.train`'s `on_progress`.
    """
    setting = SETTINGS[name]
    num_steps = num_steps or setting.num_steps
    env, params = gymnax.make(name)
    rows: list[dict[str, Any]] = []
    started = time.process_time()
    print(f"{name}: {type(setting.agent).__name__}, {num_steps:,} steps, seed {seed}")

    def on_progress(row: dict[str, Any]) -> None:
        rows.append(row)
        print({**row, "cpu_seconds": round(time.process_time() - started)}, flush=True)

    jaxrl_se.train(
        setting.agent,
        env,
        params,
        seed,
        num_steps,
        on_progress=on_progress,
        log_every=num_steps // 10,
        test_task=(env, params),
        test_episodes=32,
    )
    return rows


def main(argv: list[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=SETTINGS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    run(given.task, given.steps, given.seed)


if __name__ == "__main__":
    main()

"""Offline reinforcement learning on a log, which is what one would use instead.

Agents of d3rlpy at their defaults, and agents of ours inside a world model of the same
rows; final policies, tested in the task. d3rlpy and PyTorch live in an environment of
their own, which the command makes once in the user's cache folder.

python -m benchmarks.offline_rl --task CartPole-v1 --seed 0
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
import oswm
from benchmarks.logs.collected import log_of, task_of
from benchmarks.logs.offline_worker import receive, send
from benchmarks.shared import runtime
from benchmarks.shared.own_environment import environment
from envs import Transitions
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se.solving import default_solver

DISCRETE = ("DQN", "DoubleDQN", "DiscreteCQL", "DiscreteBCQ", "DiscreteBC")
CONTINUOUS = ("TD3PlusBC", "IQL", "CQL", "BC")
OWN = ("solve", "plain")
REQUIREMENTS = ("d3rlpy>=2.8,<3",)
_WORKER = Path(__file__).with_name("offline_worker.py")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
      task: A name for `envs.make`, or one of Gymnasium's.
      rows: Transitions to collect.
      seed: The log's is 1,000 more, so that it is the log of `benchmarks.from_log`.
      kind: As for `benchmarks.from_log`.
      algorithms: Of d3rlpy; by default those for the task's actions.
      updates: Gradient steps of each.
      own: What of ours is trained on the same rows: "solve" is `jaxrl_se.solve`, whose
        models pay less where they are unsure, as in MOPO (Yu et al., 2020); "plain" is
        one such agent inside one model that pays what it predicts.
      episodes: Test episodes of each policy.
      python: An interpreter whose environment has d3rlpy; by default one is made.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: str
    rows: int = 1000
    seed: int = 0
    kind: Literal["random", "mixed"] | None = None
    algorithms: tuple[str, ...] | None = None
    updates: int = 10_000
    own: tuple[str, ...] = OWN
    episodes: int = 20
    python: Path | None = None
    out: Path | None = None
    cache: bool = True

    def __post_init__(self):
        for name in ("rows", "updates", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name} must be at least 1, got {getattr(self, name)}"
                )
        unknown = [each for each in self.own if each not in OWN]
        if unknown:
            raise ValueError(f"--own must be among {OWN}, got {self.own}")


@dataclasses.dataclass
class OfflineAgent:
    """A process that trains an agent and then acts for it.

    Attributes:
      process: The worker.
      act: From observations `[N, D]` to actions.
      cpu_seconds: Of its training.
    """

    process: subprocess.Popen
    act: Callable[[np.ndarray], np.ndarray]
    cpu_seconds: float

    @classmethod
    def trained(
        cls, python: Path, log: Transitions, space: Any, name: str, options: Options
    ) -> OfflineAgent:
        """Trains an agent of d3rlpy's on a log.

        Raises:
          RuntimeError: The worker failed, and what it said.
        """
        discrete = hasattr(space, "n")
        low, high = (0.0, 0.0) if discrete else (space.low, space.high)
        action = np.asarray(log.action)
        if not discrete:  # d3rlpy's policies act in [-1, 1].
            action = 2 * (action - low) / (high - low) - 1
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.npz"
            np.savez(
                path,
                obs=np.asarray(log.obs, np.float32),
                action=action.astype(np.int64 if discrete else np.float32),
                reward=np.asarray(log.reward, np.float32),
                terminated=np.asarray(log.terminated, np.float32),
                truncated=_ends(log),
            )
            command = [python, _WORKER, path, name, options.updates, options.seed]
            with (Path(folder) / "said.txt").open("w+") as messages:
                process = subprocess.Popen(
                    [str(each) for each in command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=messages,
                )
                assert process.stdin is not None and process.stdout is not None
                said = process.stdout.readline()
                if not said:
                    messages.seek(0)
                    raise RuntimeError(f"d3rlpy's {name} failed: {messages.read()}")
        source, sink = process.stdout, process.stdin

        def act(obs: np.ndarray) -> np.ndarray:
            send(sink, np.asarray(obs, np.float32))
            actions = receive(source)
            if actions is None:
                raise RuntimeError(f"d3rlpy's {name} failed while it was tested")
            if discrete:
                return actions.astype(np.int32)
            return low + (np.clip(actions, -1, 1) + 1) / 2 * (high - low)

        return cls(process, act, json.loads(said)["cpu_seconds"])

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


def _ends(log: Transitions) -> np.ndarray:
    """Where an episode is cut, the end of the log included, float32 [N]."""
    ends = np.array(log.truncated, np.float32)
    ends[-1] = 1.0 - float(log.terminated[-1])
    return ends


def returns_of(
    act: Callable[[np.ndarray], np.ndarray], pair: Any, seed: int, num_episodes: int
) -> np.ndarray:
    """Returns of whole episodes, float [num_episodes], of a policy outside JAX."""
    lanes = envs.GymnasiumVectorEnv(*pair, num_envs=num_episodes)
    shape = lanes.single_action_space.shape
    assert shape is not None
    obs, _ = lanes.reset(seed=seed)
    returns, alive = np.zeros(num_episodes), np.ones(num_episodes, bool)
    while alive.any():
        actions = act(np.asarray(obs).reshape(num_episodes, -1))
        actions = actions.reshape((num_episodes, *shape))
        obs, reward, terminated, truncated, _ = lanes.step(actions)
        returns += np.where(alive, reward, 0.0)
        alive &= ~(terminated | truncated)
    return returns


def own_policy(name: str, log: Transitions, task: envs.Task, seed: int) -> Any:
    """A policy of ours from the same rows."""
    settings = {"action_space": task.action_space(), "max_steps": task.time_limit}
    if name == "solve":
        return jaxrl_se.solve(log, key=seed, progress=False, **settings).policy
    env, params = oswm.condition(
        log, model=oswm.KernelRidge(), uncertainty_penalty=0.0, **settings
    )
    agent, steps = default_solver(task.spaces)
    return jaxrl_se.train(agent, env, params, seed, steps).policy


def measure(options: Options) -> dict[str, dict[str, Any]]:
    """Trains everything on one log and tests it; name -> returns and CPU-seconds."""
    task = task_of(options.task)
    space = task.action_space()
    log, _ = log_of(options.task, options.rows, options.seed, options.kind)
    named = DISCRETE if hasattr(space, "n") else CONTINUOUS
    found = {}
    python = options.python or environment("d3rlpy", REQUIREMENTS)
    for name in options.algorithms if options.algorithms is not None else named:
        agent = OfflineAgent.trained(python, log, space, name, options)
        returns = returns_of(agent.act, task.pair, options.seed, options.episodes)
        agent.close()
        found[f"d3rlpy {name}"] = _row(returns, agent.cpu_seconds)
    for name in options.own:
        started = time.process_time()
        policy = own_policy(name, log, task, options.seed)
        seconds = time.process_time() - started
        key = jax.random.fold_in(jax.random.key(options.seed), 77)
        episodes = jaxrl_se.evaluate(policy, task, key, options.episodes)
        found[name] = _row(np.asarray(episodes.returns), seconds)
    return found


def _row(returns: np.ndarray, cpu_seconds: float) -> dict[str, Any]:
    row = {
        "mean": float(returns.mean()),
        "ci95": list(bootstrap_ci95(returns)),
        "cpu_seconds": cpu_seconds,
        "returns": [float(each) for each in returns],
    }
    return row


def main() -> None:
    """Parses the command line, trains, tests and prints."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/offline_rl")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    with RunFolder(out, identity) as folder:
        found = measure(options)
        folder.write_json("summary.json", {"task": options.task, "policies": found})
    for name, row in found.items():
        low, high = row["ci95"]
        print(
            f"{name:22} {row['mean']:9.4g} [{low:.4g}, {high:.4g}]  "
            f"{row['cpu_seconds']:5.0f} CPU-s"
        )
    print(f"results in {out}")

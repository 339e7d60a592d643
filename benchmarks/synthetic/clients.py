"""Agents that nobody here wrote (rejax, Stable-Baselines3) train in a shipped CartPole.

They see a gymnax or Gymnasium environment and know nothing of its being learned. Each
trains for 10,000 steps in it with the library's own defaults but for what is set below,
and is then tested on the real task.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from tqdm import tqdm

import envs
import jaxrl_se
from benchmarks.shared import runtime
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import summarize
from jaxrl_se.evaluation import play

EPISODES = 10

# The budget is 10,000 steps, not the hundred thousands that rejax's defaults are made
# for: DQN updates at every step, PPO after every 100. PPO's actions are sampled when it
# is tested too, so its policy has to become sharp. Chosen on agents of other seeds.
REJAX_SETTINGS: dict[str, dict[str, Any]] = {
    "dqn": {
        "num_envs": 1,
        "num_epochs": 1,
        "buffer_size": 10_000,
        "fill_buffer": 100,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "target_update_freq": 100,
        "polyak": 0.0,
        "exploration_fraction": 0.3,
    },
    "ppo": {
        "num_envs": 5,
        "num_steps": 20,
        "num_epochs": 10,
        "num_minibatches": 4,
        "learning_rate": 3e-3,
        "ent_coef": 0.0,
    },
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the clients benchmark.

    Attributes:
      env: Path of a saved synthetic environment; the shipped one by default.
      variant: Which shipped synthetic CartPole.
      agents: Agents per rejax algorithm.
      sb3_agents: Agents of Stable-Baselines3 (seconds each, in a Python loop).
      steps: Training steps of each agent in the synthetic environment.
      seed: Seed of the first agent.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    env: Path | None = None
    variant: Literal["one-step", "multi-step"] = "one-step"
    agents: int = 20
    sb3_agents: int = 5
    steps: int = 10_000
    seed: int = 0
    out: Path | None = None
    cache: bool = True


def rejax_scores(name: str, env: Any, params: Any, options: Options) -> dict:
    """Trains rejax agents and tests them on both lengths of the real task."""
    import rejax

    algorithm = getattr(rejax, name.upper()).create(
        env=envs.LegacyEnv(env),
        env_params=params,
        total_timesteps=options.steps,
        eval_freq=options.steps,
        skip_initial_evaluation=True,
        **REJAX_SETTINGS[name],
    )
    algorithm = algorithm.replace(eval_callback=lambda *_: ())

    @jax.jit
    def train_and_test(key):
        key_train, key_test = jax.random.split(key)
        train_state, _ = algorithm.train(key_train)
        policy = jax.tree_util.Partial(algorithm.make_act(train_state))
        return {
            task: play(policy, *envs.make(task), key_test, EPISODES).returns.mean()
            for task in ("CartPole-v1", "CartPole-v0")
        }

    keys = jax.random.split(jax.random.key(options.seed), options.agents)
    scores = [train_and_test(key) for key in tqdm(keys, f"rejax {name}")]
    return {task: np.array([score[task] for score in scores]) for task in scores[0]}


def stable_baselines3_scores(env: Any, params: Any, options: Options) -> dict:
    """Trains Stable-Baselines3's DQN through the Gymnasium adapter and tests it."""
    import gymnasium
    import stable_baselines3

    scores: dict[str, list[float]] = {"CartPole-v1": [], "CartPole-v0": []}
    for seed in tqdm(range(options.sb3_agents), "Stable-Baselines3 dqn"):
        agent = stable_baselines3.DQN(
            "MlpPolicy",
            envs.GymnasiumEnv(env, params),
            learning_rate=1e-3,
            target_update_interval=500,
            seed=options.seed + seed,
        )
        agent.learn(options.steps)
        for task, limit in (("CartPole-v1", 500), ("CartPole-v0", 200)):
            real = gymnasium.make("CartPole-v1", max_episode_steps=limit)
            returns = []
            for episode in range(EPISODES):
                obs, _ = real.reset(seed=1000 * seed + episode)
                total, done = 0.0, False
                while not done:
                    action, _ = agent.predict(obs, deterministic=True)
                    obs, reward, terminated, truncated, _ = real.step(int(action))
                    total += float(reward)
                    done = terminated or truncated
                returns.append(total)
            scores[task].append(float(np.mean(returns)))
    return {task: np.array(values) for task, values in scores.items()}


def main() -> None:
    """Parses the command line, trains, tests and prints the table."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    if options.env is None:
        env, params = jaxrl_se.load("CartPole-v1", options.variant)
    else:
        env, params = jaxrl_se.load(options.env)

    summary: dict[str, Any] = {"steps": options.steps, "variant": env.variant}
    out = options.out or next_run_folder("runs/clients")
    identity = {key: str(value) for key, value in dataclasses.asdict(options).items()}
    with RunFolder(out, identity) as folder:
        print(f"{'client':<24}{'task':<14}{'agents':>6}{'IQM':>8}{'mean':>8}  95 %")
        for client, package in (
            ("rejax dqn", "rejax"),
            ("rejax ppo", "rejax"),
            ("Stable-Baselines3 dqn", "stable_baselines3"),
        ):
            if importlib.util.find_spec(package) is None:
                print(f"{client:<24}not installed: pip install 'jaxrl-se[bench]'")
                continue
            if package == "rejax":
                scores = rejax_scores(client.split()[1], env, params, options)
            else:
                scores = stable_baselines3_scores(env, params, options)
            for task, values in scores.items():
                result = summarize(values, envs.solved_return(task))
                summary.setdefault(client, {})[task] = dataclasses.asdict(result)
                low, high = result.ci95
                print(
                    f"{client:<24}{task:<14}{result.num_agents:>6}{result.iqm:>8.1f}"
                    f"{result.mean:>8.1f}  [{low:.1f}, {high:.1f}]",
                    flush=True,
                )
        folder.write_json("summary.json", summary)
    print(f"results in {out}")

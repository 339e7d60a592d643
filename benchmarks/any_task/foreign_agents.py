"""Agents for environments that were not made with them: ours, rejax's, SB3's.

Each trains in one environment and is tested on a task. Nothing is chosen by task: ours
and Stable-Baselines3's have their defaults, rejax's PPO has settings that are drawn
from a written range.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl_se
from envs.spaces import Spaces
from jaxrl_se.evaluation import play

EPISODES = 10

# What `draw_settings` draws PPO from; the first is log-uniform, the others are choices.
PPO_RANGE: dict[str, tuple] = {
    "learning_rate": (1e-4, 8e-4),
    "num_envs": (1, 4, 16, 64),
    "batch": (256, 512, 1024),  # num_envs * num_steps
    "num_minibatches": (4, 8, 16),
    "num_epochs": (4, 8),
    "ent_coef": (0.0, 0.01),
    "gae_lambda": (0.9, 0.95),
}
REJAX_DEFAULT_KINDS = ("DQN", "SAC", "TD3")
SB3_KINDS = ("PPO", "DQN", "SAC", "TD3", "DDPG")
_CONTINUOUS_ONLY = ("TD3", "DDPG")
_DISCRETE_ONLY = ("DQN", "DDQN", "DiscreteTD3")


def draw_settings(num_settings: int, seed: int = 0) -> list[dict[str, Any]]:
    """Settings of rejax's PPO, drawn from `PPO_RANGE`."""
    generator = np.random.default_rng(seed)
    settings = []
    for _ in range(num_settings):
        low, high = np.log(PPO_RANGE["learning_rate"])
        drawn = {"learning_rate": float(np.exp(generator.uniform(low, high)))}
        for name, choices in PPO_RANGE.items():
            if name != "learning_rate":
                drawn[name] = choices[generator.integers(len(choices))]
        drawn["num_steps"] = drawn.pop("batch") // drawn["num_envs"]
        settings.append(drawn)
    return settings


def fits(kind: str, spaces: Spaces) -> bool:
    """Whether a kind of agent can act in these spaces."""
    if spaces.num_actions is None:
        return kind not in _DISCRETE_ONLY
    return kind not in _CONTINUOUS_ONLY


def own_scores(
    agent: Any,
    proxy: tuple[Any, Any],
    task: tuple[Any, Any],
    key: jax.Array,
    num_steps: int,
    num_agents: int,
) -> np.ndarray:
    """Mean returns `[num_agents]` on the task of our agents trained in the proxy."""
    key_train, key_test = jax.random.split(key)
    unit = getattr(agent, "iteration_steps", 1)
    num_steps = -(-num_steps // unit) * unit
    trained = jaxrl_se.train(agent, *proxy, key_train, num_steps, num_agents=num_agents)

    def test(policy, key):
        return play(policy, *task, key, EPISODES).returns.mean()

    keys = jax.random.split(key_test, num_agents)
    return np.asarray(jax.jit(jax.vmap(test))(trained.policy, keys))


def rejax_scores(
    kind: str,
    settings: dict[str, Any],
    proxy: tuple[Any, Any],
    task: tuple[Any, Any],
    key: jax.Array,
    num_steps: int,
    num_agents: int,
) -> dict[str, np.ndarray]:
    """Mean returns on the task of rejax's agents trained in the proxy.

    Args:
      kind: "PPO", "DQN", "SAC" or "TD3".
      settings: What differs from rejax's defaults.
      proxy: The environment to train in.
      task: The task to test on.
      key: A PRNG key.
      num_steps: Training steps, rounded up to whole iterations.
      num_agents: Independent agents, one after the other.

    Returns:
      `{"as it acts": [num_agents]}`, and for PPO, which acts by sampling, also
      `"greedy"`: the mode of the same policies' distributions.
    """
    import rejax

    env, params = proxy
    batch = settings.get("num_envs", 1) * settings.get("num_steps", 1)
    steps = -(-num_steps // batch) * batch
    algorithm = getattr(rejax, kind).create(
        env=envs.LegacyEnv(env),
        env_params=params,
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
        **settings,
    )
    algorithm = algorithm.replace(eval_callback=lambda *_: ())

    def mode(state):
        def act(obs, key):
            del key
            distribution = algorithm.actor.apply(
                state.actor_ts.params, obs[None], method="_action_dist"
            )
            action = distribution.mode()[0]
            space = env.action_space(params)
            return (
                action
                if hasattr(space, "n")
                else jnp.clip(action, space.low, space.high)
            )

        return act

    # Params are an argument, so that one program serves all environments of a shape.
    @jax.jit
    def train_and_test(key, params):
        key_train, key_test = jax.random.split(key)
        state, _ = algorithm.replace(env_params=params).train(key_train)
        acts = {"as it acts": algorithm.make_act(state)}
        if kind == "PPO":
            acts["greedy"] = mode(state)
        return {
            name: play(
                jax.tree_util.Partial(act), *task, key_test, EPISODES
            ).returns.mean()
            for name, act in acts.items()
        }

    scores = [train_and_test(k, params) for k in jax.random.split(key, num_agents)]
    return {name: np.array([s[name] for s in scores]) for name in scores[0]}


def sb3_scores(
    kind: str,
    proxy: tuple[Any, Any],
    task: tuple[Any, Any],
    seed: int,
    num_steps: int,
    num_agents: int,
) -> np.ndarray:
    """The same for Stable-Baselines3's agents at its defaults, tested greedily."""
    import stable_baselines3

    scores = []
    for index in range(num_agents):
        agent = getattr(stable_baselines3, kind)(
            "MlpPolicy", envs.GymnasiumEnv(*proxy), seed=seed + index, device="cpu"
        )
        agent.learn(num_steps)
        real = envs.GymnasiumEnv(*task)
        returns = []
        for episode in range(EPISODES):
            obs, _ = real.reset(seed=1000 * (seed + index) + episode)
            total, done = 0.0, False
            while not done:
                action, _ = agent.predict(obs, deterministic=True)
                obs, reward, terminated, truncated, _ = real.step(action)
                total, done = total + float(reward), terminated or truncated
            returns.append(total)
        scores.append(np.mean(returns))
    return np.array(scores)


def is_installed(package: str) -> bool:
    """Whether an optional package of other agents is there."""
    return importlib.util.find_spec(package) is not None

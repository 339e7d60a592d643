"""What `benchmarks.transfer` compares: tasks, agents, environments, published numbers.

Agents are smaller than those of Ferreira et al. (2022), who vary around 128 x 2 units
and minibatches of 128: here it is 32 x 1 units and minibatches of 16, so that agents of
all hyperparameters fit into one small padded program. Their learning rates are higher,
because they learn for hundreds instead of thousands of steps. PPO is no part of their
comparison; the minibatch of ours does not vary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

import envs
import jaxrl_se
from benchmarks.shared import runtime
from benchmarks.synthetic.acrobot import ACROBOT
from benchmarks.synthetic.benchmark import Benchmark
from benchmarks.synthetic.cartpole import CARTPOLE
from benchmarks.transfer.world_model import WorldModel, errors, fit
from envs.spaces import Spaces
from jaxrl_runs.devices import map_agents
from jaxrl_se.agents import DDQN, PPO, DiscreteTD3
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evaluation import play
from jaxrl_se.hyperparameters import Varied, vary_like_ferreira2022

CONDITIONS = ("varied", "fixed")


class Published(NamedTuple):
    """Means over 400 agents of Ferreira et al.; None where they print no number."""

    steps: float | None = None
    episodes: float | None = None
    ret: float | None = None


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What differs between tasks.

    Attributes:
      task: Name of the task that agents are tested on.
      benchmark: Its evolution with fixed hyperparameters, per variant.
      agents: Agents by name; tested with hyperparameters varied around these.
      inner: The agent whose hyperparameters vary in evolution.
      inner_steps: Its synthetic steps.
      inner_return: The mean return at which the evolution with it ends.
      steps: Synthetic steps of a tested agent, by name.
      real_steps: Largest number of steps in the real task or in a world model.
      published: By condition and agent.
    """

    task: str
    benchmark: Benchmark
    agents: dict[str, Any]
    inner: Any
    inner_steps: int
    inner_return: float
    steps: dict[str, int]
    real_steps: int
    published: dict[str, dict[str, Published]]

    def config(self, condition: str, variant: str) -> EvolutionConfig:
        """The evolution of a condition; they differ in the inner agent alone."""
        config = self.benchmark.configs[variant]
        agent = config.agents[-1]  # without the stages that precede it
        config = config.replace(agent=agent, algorithms="cycle", stages=())
        if condition == "fixed":
            return config.replace(
                agent=agent.agent if isinstance(agent, Varied) else agent
            )
        inner = self.inner
        if variant == "multi-step":
            inner = inner.replace(discount=agent.discount)
        return config.replace(
            agent=vary_like_ferreira2022(inner),
            train_steps=self.inner_steps,
            max_generations=60,
            stop_return=self.inner_return,
        )


_SMALL = {"hidden_sizes": (32,), "batch_size": 16}
_DDQN = DDQN(
    learning_rate=1e-2,
    target_update_rate=0.05,
    epsilon_end=0.02,
    learning_starts=8,
    max_grad_norm=None,
    **_SMALL,
)
_AGENTS = {
    "ddqn": _DDQN,
    "dueling": dataclasses.replace(_DDQN, dueling=True, feature_size=32),
    "td3": DiscreteTD3(
        learning_rate=5e-3,
        target_update_rate=0.05,
        policy_delay=1,
        # Actors settle on one action before the critics know better, unless these have
        # seen all actions everywhere: half of the steps are random, the others noisy.
        learning_starts=2000,
        gumbel_hard=False,
        gumbel_temperature=3.0,
        exploration_noise=1.0,
        **_SMALL,
    ),
    "ppo": PPO(
        learning_rate=2e-3,
        num_envs=5,
        rollout_steps=20,
        num_minibatches=5,
        hidden_sizes=(32,),
    ),
}

TASKS = {
    "CartPole-v0": Transfer(
        task="CartPole-v0",
        benchmark=CARTPOLE,
        agents=_AGENTS,
        inner=_DDQN,
        inner_steps=100,
        inner_return=490.0,
        steps={"ddqn": 600, "dueling": 600, "td3": 4000, "ppo": 2000},
        real_steps=10_000,
        published={
            "real": {
                "ddqn": Published(16_888, 168, 190.67),
                "dueling": Published(12_745, 118, 179.07),
                "td3": Published(17_875, 184, 187.86),
            },
            "varied": {
                "ddqn": Published(6_819, 40, 190.70),
                "dueling": Published(6_781, 40, 188.99),
                "td3": Published(5_832, 36, 83.04),
            },
            "fixed": {
                "ddqn": Published(6_380, 46, 175.46),
                "dueling": Published(6_503, 45, 178.33),
                "td3": Published(5_371, 42, 46.31),
            },
            # Their model of the real task; its termination was never trained.
            "model": {
                "ddqn": Published(ret=15.01),
                "dueling": Published(ret=9.91),
                "td3": Published(ret=10.22),
            },
        },
    ),
    "Acrobot-v1": Transfer(
        task="Acrobot-v1",
        benchmark=ACROBOT,
        agents=_AGENTS,
        inner=_DDQN,
        inner_steps=300,
        inner_return=-85.0,
        steps={"ddqn": 1000, "dueling": 1000, "td3": 5000, "ppo": 3000},
        real_steps=20_000,
        published={
            "real": {
                "ddqn": Published(15_389),
                "dueling": Published(29_531),
                "td3": Published(80_837),
            },
            "varied": {
                "ddqn": Published(18_240),
                "dueling": Published(18_376),
                "td3": Published(14_138),
            },
            "fixed": {
                "ddqn": Published(18_178),
                "dueling": Published(18_541),
                "td3": Published(13_481),
            },
        },
    ),
}


def evolve(
    transfer: Transfer,
    condition: str,
    variant: str,
    seed: int,
    path: Path,
    on_generation: Callable[[dict], None] | None = None,
) -> dict[str, Any]:
    """Evolves one environment, saves it as `path` and returns what it cost."""
    config = transfer.config(condition, variant)
    result = jaxrl_se.evolve(
        transfer.benchmark.task,
        config,
        seed,
        on_generation=on_generation,
        mesh=runtime.mesh_that_divides(config.population_size),
    )
    progress = result.progress
    report = {
        "condition": condition,
        "seed": seed,
        "solved": progress.solved,
        "generations": progress.generation,
        "cpu_seconds": progress.cpu_seconds,
        **progress.steps.as_dict(),
    }
    task = transfer.benchmark.task
    jaxrl_se.save(path, result.env, result.params, task=task, card=report)
    return report


@struct.dataclass
class ExploringPolicy:
    """Takes a policy's action, or with some probability a random one.

    Attributes:
      policy: The policy.
      epsilon: float32 scalar, the probability.
      spaces: Static; the task's spaces.
    """

    policy: Any
    epsilon: Any
    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Returns an action."""
        key_policy, key_random, key_whether = jax.random.split(key, 3)
        random = self.spaces.action_space().sample(key_random)
        explores = jax.random.uniform(key_whether) < self.epsilon
        return jnp.where(explores, random, self.policy(obs, key_policy))


def fit_world_model(
    transfer: Transfer, num_transitions: int, key: jax.Array, num_updates: int = 5000
) -> tuple[Any, Any, dict[str, Any]]:
    """A world model as good as plain supervised learning makes it.

    The first half of the transitions is a random policy's. It never leaves the
    beginning of the task, so the second half comes from an agent trained in a model of
    the first, with a tenth of its actions random; the model is then fitted to both.

    Returns:
      The model, its params and its errors on 2,000 further transitions of that agent.
    """
    task = envs.make(transfer.task)
    spaces = Spaces.of(*task)
    model, params = WorldModel.of(task)
    keys = jax.random.split(key, 7)
    half = num_transitions // 2
    first = envs.collect(task, num_transitions - half, keys[0])
    start = params.replace(weights=model.init_weights(keys[1]))
    fitted = fit(model, start, first, keys[2], num_updates=num_updates)
    agent = transfer.agents["ddqn"]
    trained = jaxrl_se.train(agent, model, fitted, keys[3], transfer.real_steps // 3)
    policy = ExploringPolicy(trained.policy, jnp.float32(0.1), spaces)
    second = envs.collect(task, half, keys[4], policy)
    both = jax.tree.map(lambda *x: jnp.concatenate(x), first, second)
    fitted = fit(model, start, both, keys[5], num_updates=num_updates)
    unseen = envs.collect(task, 2000, keys[6], policy)
    return model, fitted, errors(model, fitted, unseen)


def test(policies: Any, task: str, key: jax.Array, num_episodes: int) -> np.ndarray:
    """Mean returns `[num_agents]` of policies on a real task."""
    env, params = envs.make(task)
    keys = jax.random.split(key, jax.tree.leaves(policies)[0].shape[0])
    return np.asarray(_test((keys, policies), params, env, num_episodes), np.float64)


@partial(jax.jit, static_argnames=("env", "num_episodes"))
def _test(agents, params, env, num_episodes):
    def one(agent, params):
        key, policy = agent
        return jnp.mean(play(policy, env, params, key, num_episodes).returns)

    return map_agents(one, agents, params)

"""Real data of the one-shot world model benchmark, and tests on the real task."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl_se
import oswm
from benchmarks.oswm.tasks import WorldModelTask
from envs import Transitions


@dataclasses.dataclass
class Data:
    """Real transitions of one task; the expert is trained when it is first asked for.

    Attributes:
        task: The task.
        expert_seed: Of the expert's training.
    """

    task: WorldModelTask
    expert_seed: int = 10_000

    def __post_init__(self):
        self.real_steps = 0

    @functools.cached_property
    def expert(self) -> Any:
        """The policy of the expert's rows; its real steps are counted."""
        task = self.task
        pair, self.real_steps = None, task.expert_steps * task.expert_repeat
        if task.expert_rows is not None:
            self.real_steps = task.expert_rows
            rows = envs.collect(task.real, task.expert_rows, self.expert_seed)
            pair = oswm.condition(
                rows, task.action_space, task.max_steps, model=oswm.KernelRidge()
            )
        key = jax.random.key(self.expert_seed)
        if pair is None:
            env, params = envs.make(task.name)
            if task.expert_repeat > 1:
                env = envs.ActionRepeat(env, task.expert_repeat)
            pair = env, params
        return jaxrl_se.train(task.expert, *pair, key, task.expert_steps).policy

    def collect(self, kind: str, num_rows: int, seed: int) -> Transitions:
        """Transitions of a random policy, an expert, or both.

        Args:
            kind: "random"; "expert"; "half", where a coin decides at every step; or
                "mixed": a third each of "expert", "half" and "random".
            num_rows: How many.
            seed: Of the collection.
        """
        if kind == "mixed":
            third = num_rows // 3
            parts = (
                ("expert", third),
                ("half", third),
                ("random", num_rows - 2 * third),
            )
            rows = [
                self.collect(part, number, seed + 100_000 * i)
                for i, (part, number) in enumerate(parts)
            ]
            return jax.tree.map(lambda *x: np.concatenate(x), *rows)
        policy = None
        if kind == "expert":
            policy = self.expert
        elif kind == "half":
            policy = Half(self.expert, self.task.spaces)
        return envs.collect(self.task.real, num_rows, seed, policy)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Half:
    """At every step a coin decides between a policy's and a random action."""

    policy: Any
    spaces: jaxrl_se.Spaces = dataclasses.field(metadata={"static": True})

    def __call__(self, obs: Any, key: jax.Array) -> jax.Array:
        """Draws an action."""
        keys = jax.random.split(key, 3)
        action = jnp.asarray(self.policy(obs, keys[1]))
        random = self.spaces.action_space().sample(keys[2]).astype(action.dtype)
        return jnp.where(jax.random.bernoulli(keys[0]), action, random)


def test(
    policy: Any,
    task: WorldModelTask,
    seed: int,
    num_episodes: int,
    action_repeat: int = 1,
) -> np.ndarray:
    """Returns of a policy on the real task, `[num_episodes]`.

    Args:
        policy: `policy(obs, key) -> action`.
        task: The task.
        seed: Of episodes and policy.
        num_episodes: How many.
        action_repeat: How often each action is taken; only 1 outside JAX.
    """
    real = task.real
    if action_repeat > 1:
        env, params = real.pair
        real = envs.open_task(envs.ActionRepeat(env, action_repeat), params)
    episodes = jaxrl_se.evaluate(policy, real, seed, num_episodes)
    return np.asarray(episodes.returns, np.float64)


def reference_policies(task: WorldModelTask) -> dict[str, Any]:
    """What every agent has to beat: random actions, and doing nothing."""
    spaces = task.spaces
    policies: dict[str, Any] = {"random policy": jaxrl_se.RandomPolicy(spaces)}
    if spaces.num_actions is None:
        zero = jnp.zeros(spaces.action_size)
        policies["zero action"] = jax.tree_util.Partial(lambda obs, key: zero)
    else:
        first = {"MountainCar-v0": 1, "Acrobot-v1": 1}.get(task.name)
        if first is not None:  # No push and no torque.
            policies["zero action"] = jax.tree_util.Partial(
                lambda obs, key: jnp.int32(first)
            )
    return policies

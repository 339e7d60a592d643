"""Frame skip: each action is taken several times in a row."""

from typing import Any

import jax
import jax.numpy as jnp

from envs.stepping import raw_step
from envs.wrapper import Wrapper
from jaxrl_runs.values import MANY


class ActionRepeat(Wrapper):
    """Takes each action several times and pays the sum of the rewards.

    The last repeats of an action are left out where the task terminates or reaches its
    time limit. The state is the task's own and its ``time`` counts the task's steps,
    not the actions, so ``max_steps_in_episode`` keeps its meaning: 999 steps repeated
    five times are 199 actions of five steps and one of four. The params are the task's
    own as well: a pair ``(env, params)`` becomes ``(ActionRepeat(env, 2), params)``.

    Observation, ``terminated`` and ``info`` are those of the last step taken;
    ``info["num_repeats"]`` (int32) says how many there were. An agent discounts once
    per action. What is to happen at every step of the task, such as the shaping of its
    reward, belongs inside: ``ActionRepeat(shaped, 2)``.

    Wrappers of equal environments are equal, so that nothing compiles twice.

    Args:
        env: Environment with the interface of gymnax 1.x.
        num_repeats: How many times an action is taken, at least 1.

    Raises:
        ValueError: If ``num_repeats`` is no positive integer, or if the environment has
            a ``step`` of its own, which this would leave out.

    Example:
        >>> import envs
        >>> env, params = envs.make("MountainCarContinuous-v0")
        >>> env = ActionRepeat(env, 2)
        >>> key = jax.random.key(0)
        >>> obs, state = env.reset(key, params)
        >>> obs, state, reward, terminated, truncated, info = env.step(
        ...     key, state, jnp.ones(1), params
        ... )
        >>> int(state.time), round(float(reward), 2)
        (2, -0.2)
    """

    def __init__(self, env: Any, num_repeats: int):
        MANY.check("num_repeats", num_repeats)
        super().__init__(env, num_repeats)
        self._num_repeats = num_repeats

    @property
    def name(self) -> str:
        """The task's name and how often actions are repeated."""
        return f"{self._env.name}-repeat-{self._num_repeats}"

    @property
    def num_repeats(self) -> int:
        """How many times an action is taken."""
        return self._num_repeats

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """Take the action until it was repeated often enough or the episode is over."""
        keys = jax.random.split(key, self._num_repeats)

        def once(key, state):
            taken = raw_step(self._env, key, state, action, params)
            return taken.obs, taken.state, taken.reward, taken.terminated, taken.info

        def goes_on(carry):
            num_repeats, (_, state, _, terminated, _) = carry
            over = terminated | self._env.is_truncated(state, params)
            return (num_repeats < self._num_repeats) & ~over.reshape(())

        def repeat(carry):
            num_repeats, (_, state, total, _, _) = carry
            obs, state, reward, terminated, info = once(keys[num_repeats], state)
            taken = (obs, state, total + reward, terminated, info)
            return num_repeats + 1, taken

        first = once(keys[0], state)
        num_repeats, taken = jnp.int32(1), first
        if self._num_repeats > 1:
            num_repeats, taken = jax.lax.while_loop(
                goes_on, repeat, (num_repeats, first)
            )
        obs, state, total, terminated, info = taken
        return obs, state, total, terminated, {**info, "num_repeats": num_repeats}

"""A chain whose only reward comes at the end: how far did you get in forty steps?

Which of two actions leads on changes along the chain, and the other one leads back.

python -m benchmarks.evolve --task examples.tasks.delayed_chain:make
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

LENGTH, SECTION, SLIP = 24, 6, 0.1


@struct.dataclass
class State(environment.EnvState):
    """Position and time, int32 scalars."""

    position: jax.Array
    time: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    """The time limit, in steps."""

    max_steps_in_episode: int = 40


class DelayedChain(environment.Environment):
    """Observations `[position, time]` as fractions; one reward, in [0, 1], at the end.

    A step that slips goes the other way.
    """

    @property
    def default_params(self) -> Params:
        """Forty steps for a chain of 24."""
        return Params()

    def reset_env(self, key, params):
        """At the beginning."""
        state = State(position=jnp.int32(0), time=jnp.int32(0))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        """On or back; paid in the last step only."""
        is_right = action == best_action(state.position)
        is_right = is_right ^ (jax.random.uniform(key) < SLIP)
        move = jnp.where(is_right, 1, -1)
        position = jnp.clip(state.position + move, 0, LENGTH)
        state = State(position=position, time=state.time + 1)
        is_last = state.time >= params.max_steps_in_episode
        reward = jnp.where(is_last, position / LENGTH, 0.0)
        obs = self.observe(key, state, action, params)
        return obs, state, reward, jnp.bool_(False), {}

    def observe(self, key, state, action, params):
        """Where and when, float32 `[2]`."""
        return jnp.stack(
            [state.position / LENGTH, state.time / params.max_steps_in_episode]
        )

    def is_terminated(self, state, params):
        """Never; the time limit truncates."""
        return jnp.bool_(False)

    def action_space(self, params=None):
        """Two actions."""
        return spaces.Discrete(2)

    def observation_space(self, params=None):
        """Fractions."""
        return spaces.Box(0.0, 1.0, (2,))


def best_action(position: jax.Array) -> jax.Array:
    """The action that leads on: it alternates between sections of six."""
    return (position // SECTION) % 2


def make():
    """The task: an environment and its params."""
    env = DelayedChain()
    return env, env.default_params


def controller(obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Always on."""
    return best_action(jnp.round(obs[0] * LENGTH).astype(jnp.int32))

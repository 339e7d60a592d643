"""Two queues and one server that takes time to turn: which queue to serve?

python -m benchmarks.evolve --task examples.tasks.two_queues:make
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

ARRIVALS, CAPACITY = (0.3, 0.4), 20  # probability per step; places per queue


@struct.dataclass
class State(environment.EnvState):
    """Lengths of both queues `[2]` and the one that is served, int32; time."""

    lengths: jax.Array
    served: jax.Array
    time: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    """The time limit, in steps."""

    max_steps_in_episode: int = 100


class TwoQueues(environment.Environment):
    """Observations `[length, length, served]`; the cost is everybody who waits.

    Actions stay, turn, or clean up (nobody is served). A turn takes the step.
    """

    @property
    def default_params(self) -> Params:
        """A hundred steps."""
        return Params()

    def reset_env(self, key, params):
        """Up to ten in each queue."""
        lengths = jax.random.randint(key, (2,), 0, 11)
        state = State(lengths=lengths, served=jnp.int32(0), time=jnp.int32(0))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        """One is served where the server stays, then others arrive."""
        arrivals = jax.random.bernoulli(key, jnp.array(ARRIVALS)).astype(jnp.int32)
        served = jax.nn.one_hot(state.served, 2, dtype=jnp.int32) * (action == 0)
        lengths = jnp.clip(state.lengths - served, 0) + arrivals
        turned = jnp.where(action == 1, 1 - state.served, state.served)
        lengths = jnp.minimum(lengths, CAPACITY)
        state = State(lengths=lengths, served=turned, time=state.time + 1)
        obs = self.observe(key, state, action, params)
        return obs, state, -0.1 * jnp.sum(state.lengths), jnp.bool_(False), {}

    def observe(self, key, state, action, params):
        """All but the time, float32 `[3]`."""
        return jnp.append(state.lengths, state.served).astype(jnp.float32)

    def is_terminated(self, state, params):
        """Never; the time limit truncates."""
        return jnp.bool_(False)

    def action_space(self, params=None):
        """Stay, turn, clean up."""
        return spaces.Discrete(3)

    def observation_space(self, params=None):
        """Lengths and a place."""
        high = jnp.array([CAPACITY, CAPACITY, 1.0])
        return spaces.Box(jnp.zeros(3), high, (3,))


def make():
    """The task: an environment and its params."""
    env = TwoQueues()
    return env, env.default_params


def controller(obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Serves a queue until it is empty, then turns to the other if that has some."""
    served = obs[2] > 0.5
    here = jnp.where(served, obs[1], obs[0])
    there = jnp.where(served, obs[0], obs[1])
    return ((here == 0) & (there > 0)).astype(jnp.int32)

"""Actions of synthetic tasks, and the policies that choose them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.prior.dataset import MAX_ACTIONS
from oswm.prior.draws import Draws

NUM_CHANNELS = MAX_ACTIONS  # what an action does, as a vector


@struct.dataclass
class Actions:
    """What actions there are, and what each of them does.

    Attributes:
        is_discrete: Whether they are one of ``number`` choices.
        number: Choices, or components of a continuous action.
        effects: Of each choice, [MAX_ACTIONS, NUM_CHANNELS].
        bound: Largest component of a continuous action.
    """

    is_discrete: jax.Array
    number: jax.Array
    effects: jax.Array
    bound: jax.Array

    @property
    def is_used(self) -> jax.Array:
        """Components of the action vector in use, [MAX_ACTIONS] bool."""
        return jnp.arange(MAX_ACTIONS) < self.number

    def vector(self, preference: jax.Array) -> jax.Array:
        """Turn preferences [MAX_ACTIONS] (any size) into an action vector.

        The largest preference decides among choices (one-hot); components of a
        continuous action are preferences cut off at 1, times the bound.
        """
        best = jnp.argmax(jnp.where(self.is_used, preference, -jnp.inf))
        discrete = jax.nn.one_hot(best, MAX_ACTIONS)
        continuous = self.bound * jnp.clip(preference, -1, 1) * self.is_used
        return jnp.where(self.is_discrete, discrete, continuous)

    def effect(self, vector: jax.Array) -> jax.Array:
        """What an action vector does, [NUM_CHANNELS], about 1 in size."""
        return jnp.where(self.is_discrete, vector @ self.effects, vector / self.bound)


def init_actions(draws: Draws, discrete: bool | None = None) -> Actions:
    """Draw an action space: 2 to 6 choices or 1 to 6 components, few more often."""
    is_discrete = draws.chance(0.5) if discrete is None else jnp.asarray(discrete)
    few = jnp.floor(5 * jnp.square(draws.uniform())).astype(jnp.int32)
    # Either each choice pushes one channel up or down, or all of them are arbitrary.
    choice = jnp.arange(MAX_ACTIONS)
    axes = jax.nn.one_hot(choice // 2, NUM_CHANNELS)
    opposed = axes * jnp.where(choice % 2 == 0, 1.0, -1.0)[:, None]
    is_idle = draws.chance(0.2) & (choice == 2)
    opposed = jnp.where(is_idle[:, None], 0.0, opposed)
    arbitrary = draws.normal((MAX_ACTIONS, NUM_CHANNELS))
    return Actions(
        is_discrete=is_discrete,
        number=jnp.where(is_discrete, 2 + few, 1 + few),
        effects=jnp.where(draws.chance(0.6), opposed, arbitrary),
        bound=draws.log_uniform(0.1, 10.0),
    )


@struct.dataclass
class Policy:
    """A policy of one episode: random, sticky, or feedback with noise.

    Attributes:
        gain: Of the feedback, [MAX_ACTIONS, MAX_STATES]; 0 for a random policy.
        noise: Size of what is random in a preference.
        repeat: Probability of doing what was done last.
    """

    gain: jax.Array
    noise: jax.Array
    repeat: jax.Array

    def __call__(self, u: jax.Array, actions: Actions, obs, last) -> jax.Array:
        """Choose an action vector.

        Args:
            u: Uniform draws, [MAX_ACTIONS + 1].
            actions: What there is to choose from.
            obs: Observation.
            last: The action vector before.
        """
        preference = self.gain @ obs + self.noise * (2 * u[:-1] - 1)
        return jnp.where(u[-1] < self.repeat, last, actions.vector(preference))


def init_policies(
    draws: Draws, number: int, is_random: jax.Array, num_states: int
) -> Policy:
    """Draw policies with a leading axis [number].

    Args:
        draws: Random numbers.
        number: How many.
        is_random: Which of them are uniform and forget the last action.
        num_states: Size of an observation.
    """
    strength = jnp.where(is_random, 0.0, draws.log_uniform(0.1, 3.0, (number,)))
    noise = jnp.where(is_random, 1.0, draws.log_uniform(0.05, 1.0, (number,)))
    is_sticky = draws.chance(0.3, (number,)) & ~is_random
    gain = draws.normal((number, MAX_ACTIONS, num_states))
    return Policy(
        gain=strength[:, None, None] * gain,
        noise=noise,
        repeat=jnp.where(is_sticky, 0.8, 0.0),
    )

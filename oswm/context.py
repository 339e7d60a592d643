"""What a world model is given: transitions of a task, checked, as float32 arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.special import ndtr

from envs import read_transitions
from envs.precision import as_float32
from envs.spaces import action_vector
from oswm.actions import check_bounds, check_discrete, num_discrete_actions
from oswm.tails import Tails

# A standardised column counts as constant below this share of its magnitude: float32
# rounding of the mean alone leaves about 1e-7.
_CONSTANT = 1e-6
_LEAST_STD = 1e-12


@struct.dataclass
class Context:
    """Transitions of one task as a world model reads them.

    Their order matters to kernel ridge alone, which leaves rows out in blocks.

    Attributes:
        obs: Observations, float32 [N, S].
        action: Actions, float32 [N, A]; one-hot if they are discrete.
        next_obs: Next observations, float32 [N, S].
        reward: Rewards, float32 [N].
        terminated: 1 where the task ended the episode, float32 [N].
        mask: 1 for rows in use and 0 for padding, float32 [N].
        end_pay: What an end paid that `oswm.ends` has taken out of `reward`, float32
            [N]; None where nothing was taken.
        end_kind: Of which of two kinds of end it is, 0 or 1, float32 [N]; likewise.
        num_actions: Static; the number of discrete actions, None for continuous ones.
    """

    obs: jax.Array
    action: jax.Array
    next_obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    mask: jax.Array
    end_pay: jax.Array | None = None
    end_kind: jax.Array | None = None
    num_actions: int | None = struct.field(pytree_node=False, default=None)

    @property
    def obs_size(self) -> int:
        """Size of an observation, S."""
        return self.obs.shape[-1]

    @property
    def action_size(self) -> int:
        """Size of an action as a vector, A."""
        return self.action.shape[-1]

    @property
    def num_rows(self) -> int:
        """Rows, padding included."""
        return self.obs.shape[-2]

    @classmethod
    def of(cls, transitions: Any, action_space: Any = None) -> Context:
        """Check transitions and convert them.

        Args:
            transitions: What `envs.read_transitions` reads: ``N`` transitions with
                vector observations, of which columns may be constant. Scalar
                observations and actions count as vectors of size 1, integers as
                numbers.
            action_space: The task's, of gymnax or of Gymnasium. Without it, integer
                actions are discrete and the largest one met is the last one.

        Raises:
            ValueError: Names the field that does not fit, and what was expected.
        """
        transitions = read_transitions(transitions)
        obs = _matrix("obs", transitions.obs)
        next_obs = _matrix("next_obs", transitions.next_obs)
        num_actions = num_discrete_actions(transitions.action, action_space)
        if num_actions is None:
            action = _matrix("action", transitions.action)
            shape = getattr(action_space, "shape", None)
            if shape is not None and action.shape[1] != int(np.prod(shape)):
                raise ValueError(
                    f"action must have {int(np.prod(shape))} dimensions as in "
                    f"action_space, got {action.shape[1]}"
                )
            check_bounds(action, action_space)
        size = num_actions or action.shape[1]
        needed = obs.shape[1] + size + 2
        if len(obs) < needed:
            raise ValueError(
                f"transitions must have at least {needed} rows for {obs.shape[1]} "
                f"observation and {size} action dimensions, got {len(obs)}"
            )
        if num_actions is not None:
            action = np.eye(num_actions, dtype=np.float32)[
                check_discrete(transitions.action, num_actions)
            ]
        return cls(
            obs=jnp.asarray(obs),
            action=jnp.asarray(action),
            next_obs=jnp.asarray(next_obs),
            reward=jnp.asarray(as_float32("reward", transitions.reward)),
            terminated=jnp.asarray(transitions.terminated, jnp.float32),
            mask=jnp.ones(len(obs), jnp.float32),
            num_actions=num_actions,
        )

    def pad(self, num_rows: int) -> Context:
        """Add rows that are not in use, so that contexts of any size share a program.

        Raises:
            ValueError: If there are more rows than ``num_rows`` already.
        """
        missing = num_rows - self.num_rows
        if missing < 0:
            raise ValueError(
                f"num_rows must be at least the context's {self.num_rows} rows, got "
                f"{num_rows}"
            )
        return jax.tree.map(
            lambda x: jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)), self
        )

    def action_vector(self, action: Any) -> jax.Array:
        """One action as a float32 vector [A]."""
        return action_vector(action, self.num_actions, self.action_size)


@struct.dataclass
class Prediction:
    """What a world model says about one step; of several, all with a leading axis.

    Attributes:
        next_obs_mean: float32 [S].
        next_obs_std: Standard deviation of what will be observed, as the model itself
            knows it, float32 [S]; `tails` may correct it.
        reward_mean: float32 scalar.
        reward_std: float32 scalar.
        terminated_prob: Probability that the step ends the episode, float32 scalar.
        tails: How errors of the S observations and the reward are spread, in units of
            these deviations; None for Gaussians.
        unknown_std: What of the deviations comes of leaving the rows, float32 [S], at
            which `uncertainty_penalty` looks: what exceeds those of nine in ten rows,
            as chance is no reason to stay away, and before what models disagree by is
            added, which they do at a kink that agents may have to cross, too. None for
            `next_obs_std`.
        internal: What the model wants to see again in its `outcome`.
    """

    next_obs_mean: jax.Array
    next_obs_std: jax.Array
    reward_mean: jax.Array
    reward_std: jax.Array
    terminated_prob: jax.Array
    tails: Tails | None = None
    unknown_std: jax.Array | None = None
    internal: Any = None

    def sample(self, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draw next observation, reward and termination, independent of each other."""
        key_obs, key_reward, key_terminated = jax.random.split(key, 3)
        if self.tails is None:
            noise = jax.random.normal(key_obs, self.next_obs_mean.shape)
            of_reward = jax.random.normal(key_reward, self.reward_mean.shape)
        else:
            drawn = self.tails.draw(key_obs)
            noise, of_reward = drawn[..., :-1], drawn[..., -1]
        next_obs = self.next_obs_mean + self.next_obs_std * noise
        reward = self.reward_mean + self.reward_std * of_reward
        chance = jax.random.uniform(key_terminated, self.terminated_prob.shape)
        terminated = chance < self.terminated_prob
        return next_obs, reward, terminated

    def cdf(self, next_obs: jax.Array, reward: jax.Array) -> jax.Array:
        """Predicted probability of less than each observation and the reward, [S + 1].

        What happens lies in the central share p of what is predicted where this is
        within p / 2 of 0.5.
        """
        error = _joined(next_obs - self.next_obs_mean, reward - self.reward_mean)
        std = _joined(self.next_obs_std, self.reward_std)
        scores = error / jnp.maximum(std, _LEAST_STD)
        return ndtr(scores) if self.tails is None else self.tails.cdf(scores)


def beyond(std: jax.Array, usual: jax.Array) -> jax.Array:
    """What a deviation has more than the usual one."""
    return jnp.maximum(std - usual, 0.0)


def usual_of(std: jax.Array, mask: jax.Array) -> jax.Array:
    """What nine in ten of the rows in use do not exceed, of deviations [N, T], [T]."""
    return jnp.nanquantile(jnp.where(mask[:, None] > 0, std, jnp.nan), 0.9, axis=0)


def _joined(obs: jax.Array, reward: jax.Array) -> jax.Array:
    """Values of observations [..., S] and of the reward [...], [..., S + 1]."""
    return jnp.concatenate([obs, jnp.asarray(reward)[..., None]], axis=-1)


class Scale(NamedTuple):
    """Mean and standard deviation of columns, [D] each; the latter 1 if constant."""

    mean: jax.Array
    std: jax.Array

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array) -> Scale:
        """Of the rows of ``values`` [N, D] that are in use."""
        rows = mask[:, None] / jnp.maximum(jnp.sum(mask), 1.0)
        mean = jnp.sum(rows * values, axis=0)
        # Twice, as the first mean is off by the rounding of a sum of large numbers.
        mean = mean + jnp.sum(rows * (values - mean), axis=0)
        std = jnp.sqrt(jnp.sum(rows * jnp.square(values - mean), axis=0))
        largest = jnp.max(mask[:, None] * jnp.abs(values), axis=0)
        is_constant = std <= _CONSTANT * largest
        return cls(mean, jnp.where(is_constant, 1.0, std))

    def normalize(self, values: jax.Array) -> jax.Array:
        """To mean 0 and standard deviation 1."""
        return (values - self.mean) / self.std

    def restore(self, values: jax.Array) -> jax.Array:
        """The inverse of ``normalize``."""
        return self.mean + self.std * values


def _matrix(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(
            f"{name} must be vectors [N, size], got shape {values.shape}; images and "
            "other arrays have to be turned into a few features first"
        )
    return as_float32(name, values)

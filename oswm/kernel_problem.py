"""What kernels are fitted to: standardised columns, and what polynomials leave."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.closed_form import targets_of
from oswm.context import Context, Scale
from oswm.features import pairs
from oswm.polynomials import Polynomial, fit_polynomials, reward_features


class Standardised(NamedTuple):
    """A context's columns with mean 0 and deviation 1, and 0 in rows not in use.

    Attributes:
        targets: [N, S + 1], changes of observations and the reward.
        inputs: [N, S + A], observation and action, from which changes are predicted.
        every: [N, S + A + S], the next observation too, for the reward.
        change_scale: Of ``inputs``.
        reward_scale: Of ``every``.
        target_scale: Of ``targets``.
    """

    targets: jax.Array
    inputs: jax.Array
    every: jax.Array
    change_scale: Scale
    reward_scale: Scale
    target_scale: Scale

    @classmethod
    def of(cls, context: Context) -> Standardised:
        """Of the rows that are in use."""
        before = context.obs, context.action
        tables = (
            targets_of(context),
            jnp.concatenate(before, axis=1),
            jnp.concatenate([*before, context.next_obs], axis=1),
        )
        target, change, reward = (Scale.of(table, context.mask) for table in tables)
        targets, inputs, every = (
            context.mask[:, None] * scale.normalize(table)
            for scale, table in zip((target, change, reward), tables, strict=True)
        )
        return cls(targets, inputs, every, change, reward, target)

    @property
    def scales(self) -> tuple[Scale, Scale, Scale]:
        """Of inputs, of every column and of targets."""
        return self.change_scale, self.reward_scale, self.target_scale

    @property
    def views(self) -> jax.Array:
        """What a reward may depend on [3, S + A + S]: before, after, all of it."""
        is_next = np.arange(self.every.shape[1]) >= self.inputs.shape[1]
        return jnp.asarray(np.stack([~is_next, is_next, is_next | True]), float)


@struct.dataclass
class Problem:
    """What is fitted: T targets, the changes of observations and then the reward.

    Attributes:
        inputs: Of which changes see the first ones, float32 [N, E].
        features: An intercept and terms of a polynomial of degree 2, [N, 1 + P].
        data: The columns.
        allowed: Which terms linear and quadratic polynomials of changes have, then
            those of the reward, 0 or 1 [4, 1 + P].
        polynomials: Ridge regressions on these, a leading axis [4].
    """

    inputs: jax.Array
    features: jax.Array
    data: Standardised
    allowed: jax.Array
    polynomials: Polynomial

    @classmethod
    def of(cls, context: Context) -> Problem:
        """With polynomials fitted."""
        data = Standardised.of(context)
        mask, every = context.mask, data.every
        features = jax.vmap(reward_features, (0, None))(every, context.obs_size)
        features = mask[:, None] * jnp.insert(features, 0, 1.0, axis=1)
        term = np.arange(features.shape[1])
        num_before, num_inputs = data.inputs.shape[1], every.shape[1]
        of_change = 1 + terms_of_change(num_before, num_inputs)
        is_change = (term == 0) | np.isin(term, of_change)
        allowed = jnp.asarray(
            np.stack([term <= num_before, is_change, term <= num_inputs, term >= 0]),
            jnp.float32,
        )
        polynomials = fit_polynomials(features, data.targets, allowed, num_inputs)
        return cls(every, features, data, allowed, polynomials)

    @property
    def is_reward(self) -> jax.Array:
        """Of each target, int32 [T]."""
        number = self.polynomials.residual.shape[-1]
        return (jnp.arange(number) == number - 1).astype(jnp.int32)

    def polynomial(self, is_reward, degree) -> Polynomial:
        """That of a kind of target; degree 0 is linear, 1 quadratic."""
        return jax.tree.map(lambda x: x[2 * is_reward + degree], self.polynomials)


def terms_of_change(num_before: int, num_inputs: int) -> np.ndarray:
    """Where among `reward_features` those of observation and action alone are."""
    products = num_inputs + np.arange(len(pairs(num_before)[0]))
    return np.concatenate([np.arange(num_before), products])

"""A world model by gradient descent: a small ensemble of networks on the rows.

What model-based agents of the deep-learning era use (Chua et al., 2018, arXiv
1805.12114; Janner et al., 2019, arXiv 1906.08253), at the size of a thousand rows: each
member is trained on its own bootstrap of them, and their disagreement is the
uncertainty.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl_runs import values
from jaxrl_runs.values import (
    COUNT,
    INDEX,
    LAYERS,
    MANY,
    NOT_NEGATIVE,
    RATE,
    Integer,
    seed_key,
    setting,
)
from oswm.closed_form import ClosedForm, Stage, targets_of
from oswm.context import Scale


@struct.dataclass
class EnsembleFit:
    """A trained ensemble.

    Attributes:
        input_scale: Of observation and action.
        target_scale: Of the targets.
        weights: Pairs of matrix and bias per layer, a leading axis of members each.
        noise: Standard deviation of what no member explains, float32 [S + 1].
    """

    input_scale: Scale
    target_scale: Scale
    weights: list
    noise: jax.Array


@dataclasses.dataclass(frozen=True)
class MLPEnsemble(ClosedForm):
    """Networks for the change of the observation and the reward, trained with AdamW.

    Residuals are out of bag: of each row by the members that did not see it.

    Attributes:
        num_members: Networks.
        hidden_sizes: Their hidden layers, with SiLU units.
        num_updates: Gradient steps, with a cosine schedule.
        batch_size: Rows per step and member.
        learning_rate: First step size.
        weight_decay: Of AdamW.
        seed: Of weights, bootstraps and minibatches.
    """

    num_members: int = setting(5, Integer(at_most=256))
    hidden_sizes: tuple[int, ...] = setting((64, 64), LAYERS)
    num_updates: int = setting(3000, COUNT)
    batch_size: int = setting(128, MANY)
    learning_rate: float = setting(3e-3, RATE)
    weight_decay: float = setting(1e-4, NOT_NEGATIVE)
    seed: int = setting(0, INDEX)

    def __post_init__(self):
        values.check(self)

    @property
    def stages(self):
        """One, of gradient descent, which runs three times as long unoptimised."""
        return (Stage(self.fit_scored, level=1),)

    def fit_targets(self, context):
        """Train all members at once."""
        mask = context.mask
        inputs = jnp.concatenate([context.obs, context.action], axis=1)
        targets = targets_of(context)
        input_scale, target_scale = Scale.of(inputs, mask), Scale.of(targets, mask)
        inputs, targets = input_scale.normalize(inputs), target_scale.normalize(targets)
        key_init, key_bags, key_rows = jax.random.split(seed_key(self.seed), 3)
        bags = self._bootstrap(key_bags, mask)
        keys = jax.random.split(key_init, self.num_members)
        weights = jax.vmap(self._init, (0, None, None))(
            keys, inputs.shape[1], targets.shape[1]
        )
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.num_updates)
        optimizer = optax.adamw(schedule, weight_decay=self.weight_decay)

        def loss(weights, rows):
            errors = _apply(weights, inputs[rows]) - targets[rows]
            return jnp.mean(jnp.square(errors))

        def update(index, carry):
            weights, state = carry
            key = jax.random.fold_in(key_rows, index)
            rows = jax.random.randint(
                key, (self.num_members, self.batch_size), 0, bags.shape[1]
            )
            rows = jnp.take_along_axis(bags, rows, axis=1)
            grads = jax.vmap(jax.grad(loss))(weights, rows)
            updates, state = optimizer.update(grads, state, weights)
            return optax.apply_updates(weights, updates), state

        start = (weights, optimizer.init(weights))
        weights, _ = jax.lax.fori_loop(0, self.num_updates, update, start)
        outputs = jax.vmap(_apply, (0, None))(weights, inputs)
        residual = self._out_of_bag(bags, outputs, targets) * mask[:, None]
        num_rows = jnp.maximum(jnp.sum(mask), 1.0)
        noise = jnp.sqrt(jnp.sum(jnp.square(residual), axis=0) / num_rows)
        noise = target_scale.std * noise
        residual = target_scale.std * residual
        fit = EnsembleFit(input_scale, target_scale, weights, noise)
        return fit, residual, jnp.broadcast_to(noise, residual.shape)

    def _bootstrap(self, key: jax.Array, mask: jax.Array) -> jax.Array:
        """Rows in use, drawn with replacement, int32 [members, N]."""
        shape = (self.num_members, len(mask))
        return jax.random.categorical(key, jnp.log(mask), shape=shape)

    def _out_of_bag(self, bags, outputs, targets) -> jax.Array:
        """Residuals [N, S + 1]; a row that all members saw is predicted by all."""
        rows = jnp.arange(len(targets))
        unseen = jnp.stack([~jnp.isin(rows, bag) for bag in bags]).astype(jnp.float32)
        weights = jnp.where(jnp.sum(unseen, axis=0) > 0, unseen, 1.0)
        weights = weights / jnp.sum(weights, axis=0)
        return targets - jnp.sum(weights[..., None] * outputs, axis=0)

    def _init(self, key: jax.Array, in_size: int, out_size: int) -> list:
        sizes = (in_size, *self.hidden_sizes, out_size)
        keys = jax.random.split(key, len(sizes))
        return [
            (jax.random.normal(k, (a, b)) / jnp.sqrt(a), jnp.zeros(b))
            for k, a, b in zip(keys, sizes, sizes[1:], strict=False)
        ]

    def predict_targets(self, fit, obs, action):
        """Mean of the members; their disagreement adds to the noise."""
        x = fit.input_scale.normalize(jnp.concatenate([obs, action]))
        outputs = jax.vmap(_apply, (0, None))(fit.weights, x)
        mean = fit.target_scale.restore(jnp.mean(outputs, axis=0))
        spread = fit.target_scale.std * jnp.std(outputs, axis=0)
        return mean, jnp.sqrt(jnp.square(spread) + jnp.square(fit.noise))


def _apply(weights: list, x: jax.Array) -> jax.Array:
    """One member's outputs, for inputs [..., S + A]."""
    *hidden, (matrix, bias) = weights
    for layer, offset in hidden:
        x = jax.nn.silu(x @ layer + offset)
    return x @ matrix + bias

"""Refit of the performance surrogate on the task's own history."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import struct

from finetune import gp
from finetune.surrogate import Prior, Surrogate, apply_member


@dataclasses.dataclass(frozen=True)
class RefitConfig:
    """Settings of a refit.

    Attributes:
        num_steps: Full-batch Adam steps.
        learning_rate: Of Adam.
        pull: Strength of the quadratic pull back to the meta-trained weights.
    """

    num_steps: int = 50
    learning_rate: float = 1e-3
    pull: float = 1.0


class History(struct.PyTreeNode):
    """Examples observed on the task, padded to a fixed number of rows ``n``.

    Attributes:
        inputs: Encoded configurations and meta-features, ``[n, C]``.
        history: History features at the start, ``[n, K]``.
        start: Epochs known, ``[n]``.
        target: Epoch that was asked for, ``[n]``.
        truth: Accuracy observed there, ``[n]``.
        mask: 1 for a real row, 0 for padding, ``[n]``.
    """

    inputs: jax.Array
    history: jax.Array
    start: jax.Array
    target: jax.Array
    truth: jax.Array
    mask: jax.Array


def predict_history(surrogate: Surrogate, weights: dict, rows: History) -> Prior:
    """Apply one member to the rows of a history."""
    return apply_member(
        surrogate, weights, rows.inputs, rows.history, rows.start, rows.target
    )


def history_evidence(surrogate: Surrogate, weights: dict, rows: History) -> gp.Evidence:
    """Collect the evidence of a history for one member."""
    prior = predict_history(surrogate, weights, rows)
    return gp.gather_evidence(
        prior.features, rows.truth - prior.mean, prior.noise, rows.mask
    )


def refit(
    surrogate: Surrogate,
    rows: History,
    config: RefitConfig = RefitConfig(),
) -> Surrogate:
    """Take gradient steps on the marginal likelihood of a history.

    Args:
        surrogate: The meta-trained surrogate; each member is refitted on its own.
        rows: The history; its shape alone decides what is compiled.
        config: Settings.

    Returns:
        The surrogate with new weights.
    """
    optimizer = optax.adam(config.learning_rate)

    def member(weights):
        def loss_fn(new):
            prior = predict_history(surrogate, new, rows)
            fit = gp.log_marginal(
                prior.features,
                rows.truth - prior.mean,
                prior.noise,
                rows.mask,
                jnp.exp(new["log_ard"]),
            )
            moved = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), new, weights)
            distance = sum(jax.tree.leaves(moved))
            return -fit / jnp.maximum(rows.mask.sum(), 1) + config.pull * distance

        def step(carry, _):
            new, state = carry
            updates, state = optimizer.update(jax.grad(loss_fn)(new), state)
            return (optax.apply_updates(new, updates), state), None

        (new, _), _ = jax.lax.scan(
            step, (weights, optimizer.init(weights)), length=config.num_steps
        )
        return new

    return surrogate.replace(weights=jax.vmap(member)(surrogate.weights))

"""Performance and cost surrogates: what a finetuning run will reach, and how soon.

Both are deep-kernel Gaussian processes with a learned mean, as ensembles. The
performance surrogate predicts the accuracy of a run at a later epoch as the last value
plus a residual (0 plus a residual before the first epoch); the cost surrogate predicts
the logarithm of the seconds that an epoch of a configuration takes.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from finetune import gp
from finetune.encoding import (
    NUM_HISTORY_FEATURES,
    NUM_TIME_FEATURES,
    Encoder,
    time_features,
)

NUM_CONTEXT = NUM_HISTORY_FEATURES + NUM_TIME_FEATURES
MIN_NOISE = 0.02  # smallest standard deviation of an observation, of the target's


class Prior(NamedTuple):
    """Prediction before any evidence from the task itself.

    Attributes:
        mean: ``[...]``.
        noise: Variance of an observation around the deep kernel's function, ``[...]``.
        features: Of the deep kernel, ``[..., F]``.
    """

    mean: jax.Array
    noise: jax.Array
    features: jax.Array


class DeepKernel(nn.Module):
    """Perceptron with three heads: mean, log noise and kernel features."""

    num_hidden: int
    num_features: int

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> Prior:
        """Apply to configurations ``[..., C]`` and curve summaries ``[..., S]``."""
        x = nn.silu(nn.Dense(self.num_hidden)(x))
        x = nn.Dense(self.num_hidden)(x) + nn.Dense(self.num_hidden)(context)
        x = nn.silu(x)
        x = nn.silu(nn.Dense(self.num_hidden)(x))
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        mean = nn.Dense(1, kernel_init=small)(x)[..., 0]
        noise = nn.Dense(1, kernel_init=small)(x)[..., 0]
        features = jnp.tanh(nn.Dense(self.num_features)(x))
        return Prior(mean, noise, features)


class Surrogate(struct.PyTreeNode):
    """A meta-trained ensemble; a leading axis ``E`` on every leaf of ``weights``.

    Attributes:
        weights: Of `DeepKernel`, and ``log_ard`` ``[E, F]``.
        encoder: Scaling of the inputs.
        evidence: Of meta-training examples (the N1 reading of "no refit"), ``[E, ..]``.
        target_mean: Mean of the targets of the cost surrogate.
        target_scale: Their standard deviation.
        num_epochs: Budget of a run.
        num_hidden: Width of the perceptron.
        num_features: Size of the deep kernel.
        is_cost: Whether log-seconds are predicted, from the configuration alone.
    """

    weights: dict
    encoder: Encoder
    evidence: gp.Evidence | None
    target_mean: jax.Array
    target_scale: jax.Array
    num_epochs: int = struct.field(pytree_node=False)
    num_hidden: int = struct.field(pytree_node=False, default=64)
    num_features: int = struct.field(pytree_node=False, default=16)
    is_cost: bool = struct.field(pytree_node=False, default=False)


def apply_member(
    surrogate: Surrogate,
    weights: dict,
    inputs: jax.Array,
    history: jax.Array,
    start: jax.Array,
    target: jax.Array,
) -> Prior:
    """Predict with one member of the ensemble, before any evidence.

    Args:
        surrogate: The surrogate; its ``weights`` are not looked at.
        weights: Of one member.
        inputs: Encoded configuration and meta-features, ``[..., C]``.
        history: Row of `finetune.encoding.history_features`, ``[..., K]``.
        start: Number of observed epochs, ``[...]``.
        target: Epoch to predict, ``[...]``.
    """
    module = DeepKernel(surrogate.num_hidden, surrogate.num_features)
    if surrogate.is_cost:
        base, scale = surrogate.target_mean, surrogate.target_scale
        context = jnp.zeros((*inputs.shape[:-1], NUM_CONTEXT))
    else:
        base, scale = history[..., 0], 0.2
        time = time_features(start, target, surrogate.num_epochs)
        context = jnp.concatenate([history, time], -1)
    raw = cast(Prior, module.apply({"params": weights["network"]}, inputs, context))
    spread = 0.2 * scale * jnp.exp(jnp.clip(raw.noise, -4, 4))
    noise = (MIN_NOISE * scale) ** 2 + spread**2
    return Prior(base + scale * raw.mean, noise, scale * raw.features)


def init_weights(key: jax.Array, surrogate: Surrogate) -> dict:
    """Draw the weights of one member."""
    module = DeepKernel(surrogate.num_hidden, surrogate.num_features)
    network = module.init(
        key, jnp.zeros(surrogate.encoder.num_outputs), jnp.zeros(NUM_CONTEXT)
    )["params"]
    return {"network": network, "log_ard": jnp.zeros(surrogate.num_features) - 2.0}

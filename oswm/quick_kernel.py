"""Kernel ridge regression that is cheap enough to be fitted to every training dataset.

The same idea as ``kernel_ridge.py`` with landmarks that are simply the first rows, few
candidates, and one solve for each: training the transformer needs a base whose mistakes
look like those of the real one, hundreds of thousands of times.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from oswm.closed_form import ClosedForm, solve, targets_of
from oswm.context import Scale
from oswm.linalg import inverse_factor, matmul
from oswm.network import squared_distance

_JITTER = 1e-4


@struct.dataclass
class QuickFit:
    """Candidates, of which each target chose one.

    Attributes:
        scale: Of the inputs.
        target_scale: Of the targets.
        landmarks: Of each length scale, [L, M, D].
        whitening: [L, M, M].
        relevance: Factor of the inputs, [L, D].
        weights: Of each length scale and penalty, 0 unless chosen, [L, P, F, S + 1].
    """

    scale: Scale
    target_scale: Scale
    landmarks: jax.Array
    whitening: jax.Array
    relevance: jax.Array
    weights: jax.Array


@dataclasses.dataclass(frozen=True)
class QuickKernelRidge(ClosedForm):
    """Ridge regression on the inputs and on kernels at the first rows.

    Attributes:
        num_landmarks: At most the context's rows.
        length_scales: Candidates, in units of the root of the number of inputs.
        penalties: Candidates.
    """

    num_landmarks: int = 48
    length_scales: tuple[float, ...] = (0.5, 1.5)
    penalties: tuple[float, ...] = (1e-3, 1e-1)

    def fit_targets(self, context):
        """Fit all candidates, and keep for each target the best left-one-out."""
        mask = context.mask
        targets = targets_of(context)
        target_scale = Scale.of(targets, mask)
        targets = mask[:, None] * target_scale.normalize(targets)
        inputs = jnp.concatenate([context.obs, context.action], axis=1)
        scale = Scale.of(inputs, mask)
        inputs = mask[:, None] * scale.normalize(inputs)
        varies = jnp.any(inputs != 0, axis=0)
        scales = jnp.asarray(self.length_scales)[:, None]
        relevance = varies / (scales * jnp.sqrt(jnp.maximum(varies.sum(), 1.0)))
        in_use = mask[: self.num_landmarks]

        def one_scale(relevance):
            landmarks = (inputs * relevance)[: self.num_landmarks]
            gram = _kernel(landmarks, landmarks) * in_use * in_use[:, None]
            whitening = inverse_factor(gram + _JITTER * jnp.eye(len(gram)))
            whitening = whitening * in_use
            features = _features(inputs, landmarks, whitening, relevance)
            features = features * mask[:, None]

            def one_penalty(penalty):
                weights, _, _, left_out = solve(features, targets, penalty)
                return weights, left_out * mask[:, None]

            return (
                landmarks,
                whitening,
                *jax.vmap(one_penalty)(jnp.asarray(self.penalties)),
            )

        landmarks, whitening, weights, left_out = jax.vmap(one_scale)(relevance)
        errors = jnp.square(left_out).sum(2).reshape(-1, targets.shape[1])
        choice = jax.nn.one_hot(jnp.argmin(errors, 0), len(errors), axis=0)
        choice = choice.reshape(*left_out.shape[:2], 1, -1)
        residual = jnp.sum(choice * left_out, axis=(0, 1))
        fit = QuickFit(
            scale, target_scale, landmarks, whitening, relevance, choice * weights
        )
        residual = target_scale.std * residual
        return fit, residual, jnp.zeros_like(residual)

    def predict_targets(self, fit, obs, action):
        """The chosen candidates' prediction; no standard deviation is known."""
        inputs = fit.scale.normalize(jnp.concatenate([obs, action]))[None]
        features = jax.vmap(_features, (None, 0, 0, 0))(
            inputs, fit.landmarks, fit.whitening, fit.relevance
        )
        mean = jnp.einsum(
            "lnf,lpft->t", features, fit.weights, precision=jax.lax.Precision.HIGHEST
        )
        return fit.target_scale.restore(mean), jnp.zeros_like(mean)


def _kernel(x, landmarks):
    return jnp.exp(-0.5 * squared_distance(x, landmarks))


def _features(inputs, landmarks, whitening, relevance):
    """One, the inputs, and whitened kernels, [N, 1 + D + M]."""
    kernels = matmul(_kernel(inputs * relevance, landmarks), whitening.T)
    return jnp.concatenate([jnp.ones((len(inputs), 1)), inputs, kernels], axis=1)

"""What kernel ridge regression has fitted: functions of one query."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from oswm.context import Scale
from oswm.landmarks import choose_landmarks, kernel
from oswm.linalg import matmul


class Kernel(NamedTuple):
    """Which kernel a target has.

    Attributes:
        relevance: float32 [D], factor of each standardised input.
        additive: float32 scalar, see `oswm.landmarks.kernel`; None without such a part.
        profile: float32 [3], its smoothness, see `oswm.landmarks.radial`; None where
            all are Gaussian.
    """

    relevance: jax.Array
    additive: jax.Array | None = None
    profile: jax.Array | None = None

    def __call__(self, x: jax.Array, landmarks: jax.Array) -> jax.Array:
        """Of a standardised input [D] and landmarks [M, D], in its units, [M]."""
        used = self.relevance > 0
        return kernel(self.relevance * x, landmarks, used, self.additive, self.profile)


@struct.dataclass
class Expansion:
    """One target's function: a polynomial and a sum over landmarks.

    Attributes:
        base: float32 [1 + P], of the intercept and the base's features.
        kernel: Its kernel.
        landmarks: float32 [D, M], in units of the kernel.
        weights: float32 [M].
        whitening: float32 [M, M], from kernel values to features.
        tilt: float32 [1 + P, M], what the base explains of each feature.
        half: float32 [M, M], inverse factor of the features' penalised Gram matrix.
        base_half: float32 [1 + P, 1 + P], the same for the base.
        penalty: float32 scalar.
        noise: float32 scalar, standard deviation of the target's noise.
    """

    base: jax.Array
    kernel: Kernel
    landmarks: jax.Array
    weights: jax.Array
    whitening: jax.Array
    tilt: jax.Array
    half: jax.Array
    base_half: jax.Array
    penalty: jax.Array
    noise: jax.Array

    def __call__(
        self, x: jax.Array, features: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation, from inputs [D] and the base's features [P]."""
        features = jnp.insert(features, 0, 1.0)
        mean = matmul(features, self.base)
        leverage = jnp.sum(jnp.square(matmul(self.base_half, features)))

        def with_kernel():
            values = self.kernel(x, self.landmarks.T)
            columns = matmul(self.whitening, values)
            unexplained = jnp.maximum(1.0 - jnp.sum(jnp.square(columns)), 0.0)
            columns = matmul(self.half, columns - matmul(features, self.tilt))
            return (
                mean + matmul(values, self.weights),
                leverage + jnp.sum(jnp.square(columns)) + unexplained / self.penalty,
            )

        # Most of a query's time, which targets without a kernel need not spend.
        mean, variance = jax.lax.cond(
            jnp.isfinite(self.penalty), with_kernel, lambda: (mean, leverage)
        )
        return mean, self.noise * jnp.sqrt(1.0 + variance)


@struct.dataclass
class KernelFit:
    """A fitted kernel ridge regression.

    Attributes:
        change_scale: Of observation and action.
        reward_scale: Of observation, action and next observation.
        target_scale: Of the targets.
        change: An `Expansion` for each observation, or one with a leading axis [S] if
            they are many.
        reward: The reward's.
    """

    change_scale: Scale
    reward_scale: Scale
    target_scale: Scale
    change: tuple[Expansion, ...] | Expansion
    reward: Expansion


def kernel_features(inputs, mask, kernel: Kernel, num_landmarks: int):
    """Orthonormal features [N, M] of a kernel; the landmarks and their whitening."""
    relevance, additive, profile = kernel
    points = relevance * inputs
    rows, whitening = choose_landmarks(
        points, mask, num_landmarks, relevance > 0, additive, profile
    )
    values = jax.vmap(kernel, (0, None))(inputs, points[rows])
    return mask[:, None] * matmul(values, whitening.T), (points[rows], whitening)

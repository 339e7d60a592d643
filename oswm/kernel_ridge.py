"""Kernel ridge regression inside a context, on landmarks chosen from its rows.

A base, linear or quadratic and all but unpenalised, plus a Gaussian kernel. A pivoted
Cholesky factorisation of the kernel matrix picks the rows that explain most of it as
landmarks and gives features in which kernel ridge regression is ridge regression: a
query costs as many kernel evaluations as there are landmarks, and a thousand rows no
thousand-by-thousand factorisation. Leave-one-out errors of that regression choose the
length scale and the penalty of each target on its own.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), sections
2.7 (explicit basis functions), 5.4.2 (leave-one-out) and 8.1 (reduced rank).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.closed_form import ClosedForm, left_over, solve, targets_of
from oswm.context import Scale
from oswm.features import quadratic
from oswm.linalg import inverse_factor, matmul

_PENALTY = 1e-5  # Of the base, per row; one-hot actions add up to a constant.
_LEAST_PIVOT = 1e-5  # Share of the kernel's variance below which no landmark is added.


@struct.dataclass
class Expansion:
    """One target's function: a polynomial and a sum over landmarks.

    Attributes:
        base: float32 [1 + P], of the intercept and the base's features.
        relevance: float32 [D], factor of each standardised input in the kernel.
        additive: float32 scalar, see `kernel`; None without such a part.
        landmarks: float32 [M, D], in units of the kernel.
        weights: float32 [M].
        whitening: float32 [M, M], from kernel values to features.
        tilt: float32 [1 + P, M], what the base explains of each feature.
        half: float32 [M, M], inverse factor of the features' penalised Gram matrix.
        base_half: float32 [1 + P, 1 + P], the same for the base.
        penalty: float32 scalar.
        noise: float32 scalar, standard deviation of the target's noise.
    """

    base: jax.Array
    relevance: jax.Array
    additive: jax.Array | None
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
        values = kernel(
            self.relevance * x, self.landmarks, self.relevance > 0, self.additive
        )
        mean = matmul(features, self.base) + matmul(values, self.weights)
        columns = matmul(self.whitening, values)
        unexplained = jnp.maximum(1.0 - jnp.sum(jnp.square(columns)), 0.0)
        columns = columns - matmul(features, self.tilt)
        leverage = jnp.sum(jnp.square(matmul(self.base_half, features)))
        leverage = leverage + jnp.sum(jnp.square(matmul(self.half, columns)))
        variance = 1.0 + leverage + unexplained / self.penalty
        return mean, self.noise * jnp.sqrt(variance)


@struct.dataclass
class KernelFit:
    """A fitted kernel ridge regression.

    Attributes:
        change_scale: Of observation and action.
        reward_scale: Of observation, action and next observation.
        target_scale: Of the targets.
        change: An `Expansion` for each observation, a leading axis [S].
        reward: The reward's, a leading axis [1].
    """

    change_scale: Scale
    reward_scale: Scale
    target_scale: Scale
    change: Expansion
    reward: Expansion


@dataclasses.dataclass(frozen=True)
class KernelRidge(ClosedForm):
    """Kernel ridge regression: a polynomial of degree 1 or 2, and a Gaussian kernel.

    The reward may depend on the state that is reached: whether the kernel sees
    observation and action, the next observation, or all three is chosen by its
    leave-one-out error too, as is the degree. It is also often a sum of terms in single
    quantities, so half of its kernel may be such a sum (Duvenaud et al., 2011, arXiv
    1112.4394), which generalises to combinations that the context does not show.

    Attributes:
        num_landmarks: Most landmarks per target, at most the context's rows.
        length_scales: Candidates, in units of the root of the number of inputs.
        penalties: Candidates: variance of the noise over that of the kernel.
    """

    num_landmarks: int = 256
    length_scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    penalties: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

    def fit_targets(self, context):
        """Fit changes from observation and action; the reward from all."""
        mask = context.mask
        targets = targets_of(context)
        target_scale = Scale.of(targets, mask)
        targets = mask[:, None] * target_scale.normalize(targets)
        inputs = jnp.concatenate([context.obs, context.action], axis=1)
        change_scale = Scale.of(inputs, mask)
        inputs = mask[:, None] * change_scale.normalize(inputs)
        views = jnp.ones((1, inputs.shape[1]))
        change, change_residual = self._fit(
            inputs, jax.vmap(quadratic)(inputs), targets[:, :-1], mask, views, None
        )

        every = jnp.concatenate([context.obs, context.action, context.next_obs], axis=1)
        reward_scale = Scale.of(every, mask)
        every = mask[:, None] * reward_scale.normalize(every)
        is_next = np.arange(every.shape[1]) >= inputs.shape[1]
        views = jnp.asarray(np.stack([~is_next, is_next, np.ones_like(is_next)]), float)
        features = jax.vmap(_reward_features, (0, None))(every, context.obs_size)
        reward, reward_residual = self._fit(
            every, features, targets[:, -1:], mask, views, jnp.array([0.0, 0.5])
        )

        residual = jnp.concatenate([change_residual, reward_residual], axis=1)
        fit = KernelFit(change_scale, reward_scale, target_scale, change, reward)
        return fit, target_scale.std * residual

    def _fit(
        self, inputs, features, targets, mask, views, additive
    ) -> tuple[Expansion, jax.Array]:
        """Choose for each target among degrees, length scales, penalties and views.

        Args:
            inputs: Standardised, [N, D], 0 in rows that are not in use.
            features: The inputs, then terms of degree 2, [N, P].
            targets: Standardised, [N, O], 0 in rows that are not in use.
            mask: [N].
            views: 0 or 1 [V, D], inputs that the kernel sees.
            additive: Additive shares of the kernel [K], or None.

        Returns:
            Expansions with a leading axis [O], and leave-one-out residuals [N, O].
        """
        num_rows = jnp.maximum(jnp.sum(mask), 1.0)
        num_landmarks = min(self.num_landmarks, len(inputs))
        features = mask[:, None] * jnp.insert(features, 0, 1.0, axis=1)
        is_linear = np.arange(features.shape[1]) <= inputs.shape[1]
        degrees = jnp.asarray(np.stack([is_linear, np.ones_like(is_linear)]), float)
        is_live = jnp.any(inputs != 0, axis=0)
        num_live = jnp.maximum(jnp.sum(views * is_live, axis=1, keepdims=True), 1.0)
        relevances = views / jnp.sqrt(num_live) * is_live
        scales = jnp.asarray(self.length_scales)[:, None, None]
        relevances = (relevances / scales).reshape(-1, inputs.shape[1])
        kernels = (relevances, None)
        if additive is not None:
            kernels = (
                jnp.repeat(relevances, len(additive), axis=0),
                jnp.tile(additive, len(relevances)),
            )
        empty = self._without_kernel(inputs, features, kernels)

        def try_degree(best, degree):
            base = degree * features
            weights, half, rest, left_out = solve(base, targets, _PENALTY * num_rows)
            leverage = jnp.sum(jnp.square(matmul(base, half.T)), axis=1)
            noise = jnp.sqrt(jnp.sum(rest * left_out, axis=0) / num_rows)
            base_only = dataclasses.replace(
                empty,
                base=(degree[:, None] * weights).T,
                base_half=half * degree,
                noise=noise,
            )
            best = keep_better(best, base_only, left_out)
            # The kernel fits what the base leaves, at a variance of 1: float32 has few
            # digits for a small curvature beside a large slope.
            size = jnp.sqrt(jnp.sum(jnp.square(rest), axis=0) / num_rows)
            size = jnp.where(size > 0, size, 1.0)
            rest = rest / size

            def try_kernel(best, candidate):
                relevance, additive = candidate
                points, used = relevance * inputs, relevance > 0
                rows, whitening = choose_landmarks(
                    points, mask, num_landmarks, used, additive
                )
                landmarks = points[rows]
                values = jax.vmap(kernel, (0, None, None, None))(
                    points, landmarks, used, additive
                )
                columns = mask[:, None] * matmul(values, whitening.T)
                tilt = matmul(half.T, matmul(half, matmul(base.T, columns)))
                flat = columns - matmul(base, tilt)  # Orthogonal to the base.
                gram = matmul(flat.T, flat)
                shift = matmul(flat.T, rest)

                def try_penalty(best, penalty):
                    kernel_half = inverse_factor(
                        gram + penalty * jnp.eye(num_landmarks)
                    )

                    def correct(found):
                        gradient = shift - matmul(gram, found) - penalty * found
                        step = matmul(kernel_half, gradient)
                        return found + matmul(kernel_half.T, step)

                    found = correct(correct(jnp.zeros_like(shift)))
                    own = jnp.sum(jnp.square(matmul(flat, kernel_half.T)), axis=1)
                    residual = rest - matmul(flat, found)
                    left_out = residual / left_over(leverage + own)[:, None]
                    noise = jnp.sqrt(jnp.sum(residual * left_out, axis=0) / num_rows)
                    expansion = Expansion(
                        base=(
                            degree[:, None] * (weights - matmul(tilt, size * found))
                        ).T,
                        relevance=relevance,
                        additive=additive,
                        landmarks=landmarks,
                        weights=(size * matmul(whitening.T, found)).T,
                        whitening=whitening,
                        tilt=degree[:, None] * tilt,
                        half=kernel_half,
                        base_half=half * degree,
                        penalty=penalty,
                        noise=size * noise,
                    )
                    return keep_better(best, expansion, size * left_out), None

                return jax.lax.scan(try_penalty, best, jnp.asarray(self.penalties))

            return jax.lax.scan(try_kernel, best, kernels)[0], None

        num_targets = targets.shape[1]
        start = dataclasses.replace(empty, noise=jnp.float32(jnp.inf))
        start = jax.tree.map(lambda x: jnp.stack([x] * num_targets), start)
        nothing = jnp.full(targets.shape, jnp.inf)
        return jax.lax.scan(try_degree, (start, nothing), degrees)[0]

    def _without_kernel(self, inputs, features, kernels) -> Expansion:
        """Zeros in the shapes of one target's expansion, with an infinite penalty."""
        size, num_features = inputs.shape[1], features.shape[1]
        num_landmarks = min(self.num_landmarks, len(inputs))
        return Expansion(
            base=jnp.zeros(num_features),
            relevance=jnp.zeros(size),
            additive=None if kernels[1] is None else jnp.float32(0.0),
            landmarks=jnp.zeros((num_landmarks, size)),
            weights=jnp.zeros(num_landmarks),
            whitening=jnp.zeros((num_landmarks, num_landmarks)),
            tilt=jnp.zeros((num_features, num_landmarks)),
            half=jnp.zeros((num_landmarks, num_landmarks)),
            base_half=jnp.zeros((num_features, num_features)),
            penalty=jnp.float32(jnp.inf),
            noise=jnp.float32(0.0),
        )

    def predict_targets(self, fit, obs, action):
        """Changes first, then the reward given the next observation they lead to."""
        inputs = fit.change_scale.normalize(jnp.concatenate([obs, action]))
        change, change_std = jax.vmap(Expansion.__call__, (0, None, None))(
            fit.change, inputs, quadratic(inputs)
        )
        scale = jax.tree.map(lambda x: x[:-1], fit.target_scale)
        next_obs = obs + scale.restore(change)
        inputs = jnp.concatenate([obs, action, next_obs])
        inputs = fit.reward_scale.normalize(inputs)
        reward, reward_std = jax.vmap(Expansion.__call__, (0, None, None))(
            fit.reward, inputs, _reward_features(inputs, len(obs))
        )
        mean = jnp.concatenate([change, reward])
        std = jnp.concatenate([change_std, reward_std])
        return fit.target_scale.restore(mean), fit.target_scale.std * std


def _reward_features(inputs: jax.Array, obs_size: int) -> jax.Array:
    """All inputs, then products within observation and action, and within the next."""
    before, after = inputs[:-obs_size], inputs[-obs_size:]
    products = quadratic(before)[len(before) :], quadratic(after)[len(after) :]
    return jnp.concatenate([inputs, *products])


def kernel(
    x: jax.Array, landmarks: jax.Array, used: jax.Array, additive: jax.Array | None
) -> jax.Array:
    """The kernel of one point [D] and each landmark, [M].

    Args:
        x: In units of the length scale times the root of the number of inputs used.
        landmarks: Likewise, [M, D].
        used: Whether the kernel sees an input, [D].
        additive: Share of the sum of one Gaussian per input; the rest is a Gaussian of
            them all. None for 0.
    """
    squares = jnp.square(x - landmarks)
    joint = jnp.exp(-0.5 * jnp.sum(squares, axis=-1))
    if additive is None:
        return joint
    num_used = jnp.maximum(jnp.sum(used), 1.0)
    each = jnp.sum(used * jnp.exp(-0.5 * num_used * squares), axis=-1) / num_used
    return joint + additive * (each - joint)


def choose_landmarks(
    points: jax.Array,
    mask: jax.Array,
    num_landmarks: int,
    used: jax.Array,
    additive: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Pivoted Cholesky factorisation of the kernel matrix, cut off early.

    Args:
        points: [N, D].
        mask: [N]; padding is never chosen.
        num_landmarks: M.
        used: As in `kernel`, like the next.
        additive: Likewise.

    Returns:
        Rows of the landmarks, int32 [M], in order of what they explain, and the matrix
        [M, M] that takes kernel values at the landmarks to orthonormal features, whose
        rows are 0 once nothing is left to explain.
    """
    # All are alike at first; the order of rows must not matter.
    distance = jnp.sum(jnp.square(points), axis=1)
    most_central = jnp.argmin(jnp.where(mask > 0, distance, jnp.inf))

    def one_landmark(j, carry):
        rows, whitening, features, left = carry
        row = jnp.where(j == 0, most_central, jnp.argmax(left))
        is_needed = left[row] > _LEAST_PIVOT
        values = kernel(points[row], points, used, additive)
        scale = jnp.where(is_needed, jax.lax.rsqrt(jnp.maximum(left[row], 1e-30)), 0.0)
        mine = features[row]
        column = scale * mask * (values - matmul(features, mine))
        combination = -scale * matmul(mine, whitening)
        rows = rows.at[j].set(row)
        whitening = whitening.at[j].set(combination.at[j].set(scale))
        features = features.at[:, j].set(column)
        left = jnp.maximum(left - jnp.square(column), 0.0).at[row].set(0.0)
        return rows, whitening, features, left

    start = (
        jnp.zeros(num_landmarks, jnp.int32),
        jnp.zeros((num_landmarks, num_landmarks)),
        jnp.zeros((len(points), num_landmarks)),
        mask.astype(points.dtype),
    )
    rows, whitening, *_ = jax.lax.fori_loop(0, num_landmarks, one_landmark, start)
    return rows, whitening


def keep_better(
    best: tuple[Expansion, jax.Array], found: Expansion, left_out: jax.Array
) -> tuple[Expansion, jax.Array]:
    """For each target the expansion of the smaller leave-one-out error.

    Args:
        best: Expansions with a leading axis [O], and their residuals [N, O].
        found: Leaves without that axis are the same for all targets.
        left_out: Their residuals [N, O].
    """
    expansions, residual = best
    error = jnp.sum(jnp.square(left_out), axis=0)
    is_better = error < jnp.sum(jnp.square(residual), axis=0)

    def choose(old, new):
        new = jnp.broadcast_to(new, old.shape)  # A shared leaf has no axis [O].
        return jnp.where(is_better.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    chosen = jax.tree.map(choose, expansions, found)
    return chosen, jnp.where(is_better, left_out, residual)

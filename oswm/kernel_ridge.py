"""Kernel ridge regression inside a context, on landmarks chosen from its rows.

A base, linear or quadratic and all but unpenalised, plus a kernel. A pivoted
Cholesky factorisation of the kernel matrix picks the rows that explain most of it as
landmarks and gives features in which kernel ridge regression is ridge regression: a
query costs as many kernel evaluations as there are landmarks, and a thousand rows no
thousand-by-thousand factorisation. Leave-one-out errors of that regression choose the
length scale and the penalty of each target on its own, those of blocks of rows the
smoothness and the inputs that it sees.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), sections
2.7 (explicit basis functions), 5.4.2 (leave-one-out) and 8.1 (reduced rank).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl_runs import values
from jaxrl_runs.values import FLAG, MANY, SCALES, OneOf, TupleOf, setting
from oswm.closed_form import (
    ClosedForm,
    least,
    left_over,
    noise_of,
    solve,
    targets_of,
)
from oswm.context import Context, Scale
from oswm.features import pairs, quadratic
from oswm.landmarks import PROFILES, choose_landmarks, kernel
from oswm.linalg import inverse_factor, matmul
from oswm.relevance import RelevanceSearch

_PENALTY = 1e-5  # Of the base, per row; one-hot actions add up to a constant.
# Observations whose kernels are evaluated one by one, which skips those that no target
# chose, and takes long to compile.
_MOST_UNROLLED = 12
_BLOCK = 25  # Rows that are left out together.
_LEAST_LEFT = 1e-4
_SMOOTHNESS = TupleOf(OneOf(tuple(PROFILES)), min_size=1)


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


@struct.dataclass
class Polynomial:
    """Ridge regression on a polynomial's terms, all targets at once.

    Attributes:
        weights: float32 [1 + P, O].
        half: float32 [1 + P, 1 + P], inverse factor of the penalised Gram matrix; 0 for
            terms above the polynomial's degree.
        basis: Its terms made orthonormal, up to the penalty, float32 [N, 1 + P].
        residual: float32 [N, O].
        left_out: The same of each row by the fit to the others, float32 [N, O].
    """

    weights: jax.Array
    half: jax.Array
    basis: jax.Array
    residual: jax.Array
    left_out: jax.Array

    @property
    def leverage(self) -> jax.Array:
        """Of each row, [N]."""
        return jnp.sum(jnp.square(self.basis), axis=-1)

    def flatten(self, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the polynomial leaves of columns [N, M], and its Gram matrix [M, M]."""
        flat = columns - matmul(self.basis, matmul(self.basis.T, columns))
        return flat, matmul(flat.T, flat)


@dataclasses.dataclass(frozen=True)
class KernelRidge(ClosedForm):
    """Kernel ridge regression: a polynomial of degree 1 or 2, and a kernel.

    The reward may depend on the state that is reached: whether the kernel sees
    observation and action, the next observation, or all three is chosen by its
    leave-one-out error too, as is the degree. It is also often a sum of terms in single
    quantities, so half of its kernel may be such a sum (Duvenaud et al., 2011, arXiv
    1112.4394), which generalises to combinations that the context does not show.

    Candidates are compared on few landmarks, with every other penalty; only the best
    of each smoothness and choice of inputs are fitted on all landmarks, with all
    penalties. Of these, the one is taken that best predicts blocks of 25 rows, as they
    follow each other, from all other rows.

    Attributes:
        num_landmarks: Most landmarks per target, at most the context's rows.
        num_screening: Landmarks on which candidates are compared.
        length_scales: Candidates, in units of the root of the number of inputs.
        penalties: Candidates: variance of the noise over that of the kernel.
        smoothness: Candidates: "gaussian", of functions that are smooth to any order,
            and "matern52", of functions with two derivatives.
        ard: Whether each target's length scales are then fitted per input, by the
            marginal likelihood; of both kernels the one of the smaller leave-one-out
            error is kept.
        search: Settings of that fit.
    """

    num_landmarks: int = setting(256, MANY)
    num_screening: int = setting(64, MANY)
    length_scales: tuple[float, ...] = setting((0.25, 0.5, 1.0, 2.0, 4.0), SCALES)
    penalties: tuple[float, ...] = setting((1e-4, 1e-3, 1e-2, 1e-1, 1.0), SCALES)
    smoothness: tuple[str, ...] = setting(("gaussian", "matern52"), _SMOOTHNESS)
    ard: bool = setting(False, FLAG)
    search: RelevanceSearch = RelevanceSearch()  # noqa: RUF009 (frozen)

    def __post_init__(self):
        values.check(self)

    def fit_targets(self, context):
        """Fit changes from observation and action; the reward from all."""
        return self._fit_all(context)[:3]

    def fit_scored(self, context):
        """The same, with errors of blocks of rows that are left out together."""
        fit, residual, _, scores = self._fit_all(context)
        return fit, residual, scores

    def _fit_all(self, context):
        """What `fit_targets` returns, and the scores [N, S + 1] of `fit_scored`."""
        mask, data = context.mask, Standardised.of(context)
        inputs, every = data.inputs, data.every
        views = jnp.ones((1, inputs.shape[1]))
        change, *of_change = self._fit(
            inputs, jax.vmap(quadratic)(inputs), data.targets[:, :-1], mask, views, None
        )
        features = jax.vmap(reward_features, (0, None))(every, context.obs_size)
        additive = jnp.array([0.0, 0.5])
        reward, *of_reward = self._fit(
            every, features, data.targets[:, -1:], mask, data.views, additive
        )
        residual, std, scores = (
            jnp.concatenate(parts, axis=0).T
            for parts in zip(of_change, of_reward, strict=True)
        )
        residual, std = (data.target_scale.std * x for x in (residual, std))
        if context.obs_size <= _MOST_UNROLLED:
            change = tuple(
                jax.tree.map(lambda x, i=i: x[i], change)
                for i in range(context.obs_size)
            )
        reward = jax.tree.map(lambda x: x[0], reward)
        fit = KernelFit(*data.scales, change, reward)
        return fit, residual, std, scores

    def _fit(
        self, inputs, features, targets, mask, views, additive
    ) -> tuple[Expansion, jax.Array, jax.Array, jax.Array]:
        """Choose for each target among degrees, length scales, penalties and views.

        Args:
            inputs: Standardised, [N, D], 0 in rows that are not in use.
            features: The inputs, then terms of degree 2, [N, P].
            targets: Standardised, [N, O], 0 in rows that are not in use.
            mask: [N].
            views: 0 or 1 [V, D], inputs that the kernel sees.
            additive: Additive shares of the kernel [K], or None.

        Returns:
            Expansions with a leading axis [O], and leave-one-out residuals, standard
            deviations, and scores of blocks of rows [O, N].
        """
        features = mask[:, None] * jnp.insert(features, 0, 1.0, axis=1)
        polynomials = fit_polynomials(features, targets, mask, inputs.shape[1])
        penalties = jnp.asarray(self.penalties)
        size = min(self.num_landmarks, len(inputs))
        data = inputs, mask

        def screen(candidate):
            few = min(self.num_screening, size)
            columns, _ = kernel_features(inputs, mask, candidate, few)

            def errors(polynomial):
                flat = polynomial.flatten(columns)
                tried = jax.vmap(solve_kernel, (None, None, None, 0))(
                    flat, polynomial.residual, polynomial.leverage, penalties[::2]
                )
                return jnp.nanmin(jnp.sum(jnp.square(tried.left_out), axis=1), axis=0)

            return jax.vmap(errors)(polynomials)

        kernels = self._kernels(inputs, views, additive)
        errors = jax.lax.map(screen, kernels)  # [candidates, degrees, O]
        choice = least(errors.reshape(-1, errors.shape[-1]))
        groups = self._groups(len(views), 1 if additive is None else len(additive))

        def fit_one(target):
            candidate, degree = jnp.divmod(choice[target], errors.shape[1])
            best = jax.tree.map(lambda x: x[candidate], kernels)
            # Few landmarks favour long scales, so the next shorter one is tried, too,
            # and smooth kernels of few inputs, so the best of each group is.
            more = [best._replace(relevance=2.0 * best.relevance)]
            if self.ard:
                terms = jnp.where(degree == 0, is_linear, 1.0) * features
                residual = polynomials.residual[degree, :, target, None]
                found = self.search(inputs, terms, residual, mask, *best)
                more.append(best._replace(relevance=found))
            place = least(errors[groups, degree, target].T)
            rows = jnp.take_along_axis(groups, place[:, None], axis=1)[:, 0]
            each = jax.tree.map(lambda x: x[rows], kernels)
            tried = jax.tree.map(lambda x, *y: jnp.stack([*x, *y]), each, *more)
            return _fit_one(data, polynomials, target, degree, tried, penalties, size)

        is_linear = jnp.arange(features.shape[1]) <= inputs.shape[1]

        return jax.lax.map(fit_one, jnp.arange(targets.shape[1]))

    def _groups(self, num_views: int, num_shares: int) -> jax.Array:
        """Candidates by smoothness and view [G, ...], in the order of `_kernels`."""
        sizes = len(self.smoothness), len(self.length_scales), num_views, num_shares
        order = np.arange(np.prod(sizes)).reshape(sizes).swapaxes(1, 2)
        return jnp.asarray(order.reshape(len(self.smoothness) * num_views, -1))

    def _kernels(self, inputs, views, additive) -> Kernel:
        """Candidates, with a leading axis [C]: smoothness, scale, view, share."""
        is_live = jnp.any(inputs != 0, axis=0)
        num_live = jnp.maximum(jnp.sum(views * is_live, axis=1, keepdims=True), 1.0)
        relevances = views / jnp.sqrt(num_live) * is_live
        scales = jnp.asarray(self.length_scales)[:, None, None]
        relevances = (relevances / scales).reshape(-1, inputs.shape[1])
        if additive is not None:
            number = len(relevances)
            relevances = jnp.repeat(relevances, len(additive), axis=0)
            additive = jnp.tile(additive, number)
        if self.smoothness == ("gaussian",):
            return Kernel(relevances, additive)
        profiles = jnp.array([PROFILES[name] for name in self.smoothness])
        return Kernel(
            relevance=jnp.tile(relevances, (len(profiles), 1)),
            additive=None if additive is None else jnp.tile(additive, len(profiles)),
            profile=jnp.repeat(profiles, len(relevances), axis=0),
        )

    def predict_targets(self, fit, obs, action):
        """Changes first, then the reward given the next observation they lead to."""
        inputs = fit.change_scale.normalize(jnp.concatenate([obs, action]))
        features = quadratic(inputs)
        if isinstance(fit.change, tuple):
            found = [expansion(inputs, features) for expansion in fit.change]
            change, change_std = (jnp.stack(x) for x in zip(*found, strict=True))
        else:
            change, change_std = jax.vmap(Expansion.__call__, (0, None, None))(
                fit.change, inputs, features
            )
        scale = jax.tree.map(lambda x: x[:-1], fit.target_scale)
        next_obs = obs + scale.restore(change)
        inputs = jnp.concatenate([obs, action, next_obs])
        inputs = fit.reward_scale.normalize(inputs)
        features = reward_features(inputs, len(obs))
        reward, reward_std = fit.reward(inputs, features)
        mean = jnp.append(change, reward)
        std = jnp.append(change_std, reward_std)
        return fit.target_scale.restore(mean), fit.target_scale.std * std


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


def reward_features(inputs: jax.Array, obs_size: int) -> jax.Array:
    """All inputs, then products within observation and action, and within the next."""
    first, second = reward_pairs(len(inputs), obs_size)
    return jnp.concatenate([inputs, inputs[first] * inputs[second]])


def reward_pairs(num_inputs: int, obs_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which inputs of the reward are multiplied."""
    num_before = num_inputs - obs_size
    before, after = pairs(num_before), pairs(obs_size)
    first, second = (
        np.concatenate([x, num_before + y]) for x, y in zip(before, after, strict=True)
    )
    return first, second


def fit_polynomials(features, targets, mask, num_inputs: int) -> Polynomial:
    """Of degree 1 and 2, a leading axis [2]."""
    penalty = _PENALTY * jnp.maximum(jnp.sum(mask), 1.0)
    size = features.shape[1]

    def fit_terms(number):
        terms = features[:, :number]
        weights, half, residual, left_out = solve(terms, targets, penalty)
        return Polynomial(
            weights=jnp.pad(weights, ((0, size - number), (0, 0))),
            half=jnp.pad(half, (0, size - number)),
            basis=jnp.pad(matmul(terms, half.T), ((0, 0), (0, size - number))),
            residual=residual,
            left_out=left_out,
        )

    each = fit_terms(1 + num_inputs), fit_terms(size)
    return jax.tree.map(lambda *x: jnp.stack(x), *each)


def kernel_features(inputs, mask, kernel: Kernel, num_landmarks: int):
    """Orthonormal features [N, M] of a kernel; the landmarks and their whitening."""
    relevance, additive, profile = kernel
    points = relevance * inputs
    rows, whitening = choose_landmarks(
        points, mask, num_landmarks, relevance > 0, additive, profile
    )
    values = jax.vmap(kernel, (0, None))(inputs, points[rows])
    return mask[:, None] * matmul(values, whitening.T), (points[rows], whitening)


@struct.dataclass
class Solution:
    """Of one penalty: weights [M, O], and for rows leverage [N], residuals [N, O]."""

    weights: jax.Array
    half: jax.Array
    leverage: jax.Array
    residual: jax.Array
    left_out: jax.Array


def solve_kernel(flat, residual, leverage, penalty) -> Solution:
    """Fit what a polynomial leaves by flat columns, given with their Gram matrix."""
    flat, gram = flat
    half = inverse_factor(gram + penalty * jnp.eye(len(gram)))
    shift = matmul(flat.T, residual)

    def correct(weights):
        gradient = shift - matmul(gram, weights) - penalty * weights
        return weights + matmul(half.T, matmul(half, gradient))

    weights = correct(correct(jnp.zeros_like(shift)))
    leverage = leverage + jnp.sum(jnp.square(matmul(flat, half.T)), axis=1)
    residual = residual - matmul(flat, weights)
    left_out = residual / left_over(leverage)[:, None]
    return Solution(weights, half, leverage, residual, left_out)


def blocks_left_out(
    rows: jax.Array, residual: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rows as all others but their neighbours in time predict them.

    What follows each other in an episode is alike: left out one by one, rows say little
    about what the kernel makes of places where no episode has been.

    Args:
        rows: [N, K], of which the products of pairs are what predictions weigh targets
            with; 0 for rows that are not in use.
        residual: Of the fit to all rows, [N].

    Returns:
        Residuals [N], and their variances over that of the noise [N].
    """
    number, missing = len(rows), -len(rows) % _BLOCK
    rows = jnp.pad(rows, ((0, missing), (0, 0))).reshape(-1, _BLOCK, rows.shape[1])
    residual = jnp.pad(residual, (0, missing)).reshape(-1, _BLOCK)

    def one_block(rows, residual):
        left = (1.0 + _LEAST_LEFT) * jnp.eye(_BLOCK) - matmul(rows, rows.T)
        half = inverse_factor(left)
        return matmul(half.T, matmul(half, residual)), jnp.sum(jnp.square(half), axis=0)

    found = jax.vmap(one_block)(rows, residual)
    residual, variance = (x.ravel()[:number] for x in found)
    return residual, variance


def _fit_one(data, polynomials, target, degree, kernels, penalties, num_landmarks):
    """Fit the best of a target's kernels on all landmarks, unless polynomials win.

    Returns:
        An `Expansion`, leave-one-out residuals [N] and standard deviations [N], and
        errors over deviations of rows that are left out in blocks [N].
    """
    inputs, mask = data
    chosen = jax.tree.map(lambda x: x[degree], polynomials)
    residual = chosen.residual[:, target, None]

    def try_kernel(kernel):
        columns, (landmarks, whitening) = kernel_features(
            inputs, mask, kernel, num_landmarks
        )
        flat = chosen.flatten(columns)
        tried = jax.lax.map(
            lambda penalty: solve_kernel(flat, residual, chosen.leverage, penalty),
            penalties,
        )
        best = least(jnp.sum(jnp.square(tried.left_out), axis=(1, 2)))
        found = jax.tree.map(lambda x: x[best], tried)
        noise = noise_of(found.residual, found.left_out, mask)[0]
        unexplained = jnp.maximum(1.0 - jnp.sum(jnp.square(columns), axis=1), 0.0)
        variance = 1.0 / left_over(found.leverage) + unexplained / penalties[best]
        expansion = Expansion(
            base=chosen.weights[:, target],
            kernel=kernel,
            landmarks=landmarks.T,
            weights=found.weights[:, 0],
            whitening=whitening,
            tilt=matmul(chosen.basis.T, columns),
            half=found.half,
            base_half=chosen.half,
            penalty=penalties[best],
            noise=noise,
        )
        rows = jnp.concatenate([chosen.basis, matmul(flat[0], found.half.T)], axis=1)
        error, spread = blocks_left_out(rows, found.residual[:, 0])
        scores = error / (noise * jnp.sqrt(spread + unexplained / penalties[best]))
        std = noise * jnp.sqrt(variance)
        error = jnp.sum(jnp.square(error))
        return (expansion, found.left_out[:, 0], std, scores), error

    tried, errors = jax.lax.map(try_kernel, kernels)
    best = least(errors)
    expansion, left_out, std, scores = jax.tree.map(lambda x: x[best], tried)
    weights, tilt = expansion.weights, matmul(chosen.half.T, expansion.tilt)
    expansion = dataclasses.replace(
        expansion,
        base=expansion.base - matmul(tilt, weights),
        weights=matmul(expansion.whitening.T, weights),
        tilt=tilt,
    )
    with_kernel = expansion, left_out, std, scores

    errors = jnp.sum(jnp.square(polynomials.left_out[..., target]), axis=1)
    simple = jax.tree.map(lambda x: x[least(errors)], polynomials)
    noise = noise_of(simple.residual, simple.left_out, mask)[target]
    without = dataclasses.replace(
        jax.tree.map(jnp.zeros_like, with_kernel[0]),
        base=simple.weights[:, target],
        base_half=simple.half,
        penalty=jnp.float32(jnp.inf),
        noise=noise,
    )
    std = noise / jnp.sqrt(left_over(simple.leverage))
    error, spread = blocks_left_out(simple.basis, simple.residual[:, target])
    scores = error / (noise * jnp.sqrt(spread))
    without = without, simple.left_out[:, target], std, scores
    is_better = jnp.sum(jnp.square(with_kernel[1])) < jnp.nanmin(errors)
    return jax.tree.map(lambda a, b: jnp.where(is_better, a, b), with_kernel, without)

"""Kernel ridge regression whose targets share a kernel: a step is two small products.

Evolution asks for millions of steps. Where each target has a kernel of its own, a step
evaluates as many kernels, and the deviation of each takes a product with a matrix of
all landmarks squared. Here all changes share one kernel on fewer landmarks, with a
length scale per input that the marginal likelihood of all of them together chooses, and
the deviation looks at the first landmarks alone: a step costs one exponential per
landmark, and a population's steps are products of small matrices.

Steps per CPU-second of random actions in a CartPole of 1,000 random rows, autoreset
included, one thread (`python -m benchmarks.oswm --parts speed --models kernel_ridge
fast_kernel_ridge` measures the first column). The machine was shared: figures of the
last two rows move by half between runs; the first two are from a calmer hour.

| model | 64 in parallel | 512 in parallel |
|---|---|---|
| the task itself (what resets and keys leave: the ceiling) | 2,128,118 | 4,308,787 |
| `KernelRidge()` | 63,448 | 80,660 |
| `FastKernelRidge()` | 453,404 | 1,064,724 |
| `Ridge()`, in the same run as the row above | 691,139 | 2,085,886 |

So about 7 times `KernelRidge` with 64 in parallel and 13 times with 512.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl_runs import values
from jaxrl_runs.values import MANY, SCALES, setting
from oswm.closed_form import ClosedForm, least, left_over, noise_of
from oswm.context import Scale
from oswm.expansion import Kernel, kernel_features
from oswm.features import apply_form, form_of, pairs
from oswm.kernel_problem import Standardised
from oswm.linalg import matmul
from oswm.polynomials import Polynomial, fit_polynomials, reward_pairs, solve_kernel
from oswm.relevance import RelevanceSearch

_HELPED = 0.5  # Share of a polynomial's error below which a kernel is worth having.
_TYPICAL = 0.9  # Share of the rows whose deviation counts as that of the context.


@struct.dataclass
class SharedExpansion:
    """Functions of the same inputs: a polynomial, and a sum over shared landmarks.

    Attributes:
        relevance: Factor of each standardised input in the kernel, float32 [D].
        landmarks: In units of the kernel, float32 [D, M].
        form: The polynomials, float32 [1 + D, 1 + D, O].
        weights: Of the landmarks, float32 [M, O].
        whitening: From the first kernel values to features, float32 [K, K].
        unseen: Share of the kernel's variance that the features leave at nine of ten
            rows at most, float32 scalar.
        noise: Standard deviation of a target's noise, float32 [O].
        gain: That of a target where nothing is known, 0 without a kernel, float32 [O].
    """

    relevance: jax.Array
    landmarks: jax.Array
    form: jax.Array
    weights: jax.Array
    whitening: jax.Array
    unseen: jax.Array
    noise: jax.Array
    gain: jax.Array

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Means and standard deviations [O], from inputs [D]."""
        simple = apply_form(self.form, x)

        def with_kernel():
            values = _kernel(self.relevance * x, self.landmarks)
            unknown = unknown_share(values, self.whitening) - self.unseen
            return simple + matmul(values, self.weights), jnp.maximum(unknown, 0.0)

        # Where no target chose a kernel, which is one question for a whole population.
        mean, unknown = jax.lax.cond(
            jnp.any(self.gain > 0), with_kernel, lambda: (simple, jnp.float32(0.0))
        )
        variance = jnp.square(self.noise) + unknown * jnp.square(self.gain)
        return mean, jnp.sqrt(variance)


def unknown_share(values: jax.Array, whitening: jax.Array) -> jax.Array:
    """Share of a kernel's variance at points that landmarks do not explain, [...].

    Args:
        values: Kernel values at all landmarks, [..., M].
        whitening: Of the first K, [K, K].
    """
    features = matmul(values[..., : len(whitening)], whitening.T)
    return jnp.maximum(1.0 - jnp.sum(jnp.square(features), axis=-1), 0.0)


def _kernel(x: jax.Array, landmarks: jax.Array) -> jax.Array:
    """Of a point [D] and landmarks [D, M], both in units of the kernel, [M].

    Written with a product, which for many points at once is one of matrices.
    """
    squares = jnp.sum(jnp.square(landmarks), axis=0) + jnp.sum(jnp.square(x))
    return jnp.exp(jnp.minimum(matmul(x, landmarks) - 0.5 * squares, 0.0))


@struct.dataclass
class FastFit:
    """A fitted `FastKernelRidge`.

    Attributes:
        change_scale: Of observation and action.
        reward_scale: Of observation, action and next observation.
        target_scale: Of the targets.
        change: Functions of all observations.
        reward: The reward's.
    """

    change_scale: Scale
    reward_scale: Scale
    target_scale: Scale
    change: SharedExpansion
    reward: SharedExpansion


@dataclasses.dataclass(frozen=True)
class FastKernelRidge(ClosedForm):
    """Kernel ridge regression for millions of steps.

    Attributes:
        num_landmarks: Landmarks of the changes.
        num_reward_landmarks: Of the reward, which may depend on the next observation.
        num_known: Of these, the first that the standard deviation looks at.
        length_scales: Candidates to start from, in units of the root of the number of
            inputs.
        penalties: Candidates: variance of the noise over that of the kernel; each
            target has its own.
        search: How length scales per input are fitted.
    """

    num_landmarks: int = setting(128, MANY)
    num_reward_landmarks: int = setting(64, MANY)
    num_known: int = setting(48, MANY)
    length_scales: tuple[float, ...] = setting((0.5, 1.0, 2.0, 4.0), SCALES)
    penalties: tuple[float, ...] = setting((1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), SCALES)
    search: RelevanceSearch = RelevanceSearch()  # noqa: RUF009 (frozen)

    def __post_init__(self):
        values.check(self)

    def fit_targets(self, context):
        """Fit changes from observation and action; the reward from all."""
        mask, data = context.mask, Standardised.of(context)
        inputs, every = data.inputs, data.every
        products = pairs(inputs.shape[1])
        views = jnp.ones((1, inputs.shape[1]))
        change, *of_change = self._fit(
            inputs, products, data.targets[:, :-1], mask, views, self.num_landmarks
        )
        products = reward_pairs(every.shape[1], context.obs_size)
        size = self.num_reward_landmarks
        reward, *of_reward = self._fit(
            every, products, data.targets[:, -1:], mask, data.views, size
        )
        residual, std = (
            data.target_scale.std * jnp.concatenate(parts, axis=1)
            for parts in zip(of_change, of_reward, strict=True)
        )
        fit = FastFit(*data.scales, change, reward)
        return fit, residual, std

    def predict_targets(self, fit, obs, action):
        """Changes first, then the reward given the next observation they lead to."""
        inputs = fit.change_scale.normalize(jnp.concatenate([obs, action]))
        change, change_std = fit.change(inputs)
        scale = jax.tree.map(lambda x: x[:-1], fit.target_scale)
        next_obs = obs + scale.restore(change)
        reward, reward_std = self._reward(fit, obs, action, next_obs)
        mean = jnp.append(scale.restore(change), reward)
        std = jnp.append(scale.std * change_std, reward_std)
        return mean, std

    def _reward(self, fit, obs, action, next_obs):
        """Reward and its deviation, given the next observation."""
        inputs = jnp.concatenate([obs, action, next_obs])
        reward, std = fit.reward(fit.reward_scale.normalize(inputs))
        scale = jax.tree.map(lambda x: x[-1], fit.target_scale)
        return scale.restore(reward[0]), scale.std * std[0]

    def reward_at(self, fit, obs, action, next_obs, predicted):
        """The reward's kernel, which may look at the next observation."""
        del predicted
        return self._reward(fit, obs, action, next_obs)

    def _fit(
        self, inputs, products, targets, mask, views, num_landmarks
    ) -> tuple[SharedExpansion, jax.Array, jax.Array]:
        """Choose degree, kernel and penalties by leave-one-out errors.

        Args:
            inputs: Standardised, [N, D], 0 in rows that are not in use.
            products: Inputs that are multiplied in the polynomial, and with which.
            targets: Standardised, [N, O], 0 in rows that are not in use.
            mask: [N].
            views: 0 or 1 [V, D], inputs that the kernel may see.
            num_landmarks: M, at most the number of rows.

        Returns:
            The functions, and leave-one-out residuals and standard deviations [N, O].
        """
        size = min(num_landmarks, len(inputs))
        first, second = products
        terms = jnp.concatenate([inputs, inputs[:, first] * inputs[:, second]], axis=1)
        features = mask[:, None] * jnp.insert(terms, 0, 1.0, axis=1)
        is_linear = jnp.arange(features.shape[1]) <= inputs.shape[1]
        allowed = jnp.stack([is_linear, jnp.ones_like(is_linear)]).astype(float)
        polynomials = fit_polynomials(features, targets, allowed, inputs.shape[1])
        relevances = self._relevances(inputs, views)
        few = min(size, 48)

        alone = jnp.sum(jnp.square(polynomials.left_out), axis=1)  # [degrees, O]

        def screen(relevance):
            columns, _ = kernel_features(inputs, mask, Kernel(relevance), few)
            return jax.vmap(lambda p: self._tried(p, columns)[1])(polynomials)

        errors = jax.lax.map(screen, relevances)  # [candidates, degrees, O]
        # What a polynomial leaves nothing of, or noise alone, has no say.
        helped = jnp.min(errors, axis=(0, 1)) < _HELPED * jnp.min(alone, axis=0)
        weights = jnp.where(jnp.any(helped), helped, jnp.ones_like(helped))
        total = _total(errors, weights)
        candidate, degree = jnp.divmod(least(total.ravel()), total.shape[1])
        polynomial = jax.tree.map(lambda x: x[degree], polynomials)
        start = relevances[candidate]
        basis = jnp.where(degree == 0, is_linear, 1.0) * features
        asked = polynomial.residual * weights
        found = self.search(inputs, basis, asked, mask, start)

        def whole(relevance):
            columns, _ = kernel_features(inputs, mask, Kernel(relevance), size)
            return _total(self._tried(polynomial, columns)[1], weights)

        tried = jnp.stack([start, 2.0 * start, found])
        relevance = tried[least(jax.lax.map(whole, tried))]
        data = inputs, targets, mask, products
        return self._finish(data, polynomials, polynomial, relevance, size)

    def _relevances(self, inputs, views) -> jax.Array:
        """Candidates to start from, [C, D]."""
        is_live = jnp.any(inputs != 0, axis=0)
        num_live = jnp.maximum(jnp.sum(views * is_live, axis=1, keepdims=True), 1.0)
        relevances = views / jnp.sqrt(num_live) * is_live
        scales = jnp.asarray(self.length_scales)[:, None, None]
        return (relevances / scales).reshape(-1, inputs.shape[1])

    def _tried(self, polynomial: Polynomial, columns):
        """Solutions of all penalties, and leave-one-out errors [O] of the best ones."""
        flat = polynomial.flatten(columns)
        tried = jax.lax.map(
            lambda penalty: solve_kernel(flat, polynomial, penalty),
            jnp.asarray(self.penalties),
        )
        errors = jnp.sum(jnp.square(tried.left_out), axis=1)
        return tried, jnp.min(jnp.where(jnp.isnan(errors), jnp.inf, errors), axis=0)

    def _finish(
        self, data, polynomials, polynomial, relevance, size
    ) -> tuple[SharedExpansion, jax.Array, jax.Array]:
        """Fit the chosen kernel; targets that a polynomial fits better keep that."""
        inputs, targets, mask, products = data
        columns, (landmarks, whitening) = kernel_features(
            inputs, mask, Kernel(relevance), size
        )
        tried, errors = self._tried(polynomial, columns)
        each = jnp.arange(targets.shape[1])
        choice = least(jnp.sum(jnp.square(tried.left_out), axis=1))
        weights = tried.weights[choice, :, each].T
        left_out = tried.left_out[choice, :, each].T
        residual = tried.residual[choice, :, each].T
        leverage = tried.leverage[choice].T
        penalty = jnp.asarray(self.penalties)[choice]

        alone = jnp.sum(jnp.square(polynomials.left_out), axis=1)
        degree = least(alone)
        simple = jax.tree.map(lambda x: x[degree], polynomials)  # A leading axis [O].
        is_kernel = errors < jnp.nanmin(alone, axis=0)
        tilt = matmul(polynomial.half.T, matmul(polynomial.basis.T, columns))
        base = polynomial.weights - matmul(tilt, weights)
        base = jnp.where(is_kernel, base, simple.weights[each, :, each].T)
        weights = jnp.where(is_kernel, matmul(whitening.T, weights), 0.0)
        left_out = jnp.where(is_kernel, left_out, simple.left_out[each, :, each].T)
        residual = jnp.where(is_kernel, residual, simple.residual[each, :, each].T)
        leverage = jnp.where(is_kernel, leverage, simple.leverage.T)
        noise = noise_of(residual, left_out, mask)
        known = whitening[: self.num_known, : self.num_known]
        values = jax.vmap(_kernel, (0, None))(relevance * inputs, landmarks.T)
        unknown = unknown_share(values, known)
        expansion = SharedExpansion(
            relevance=relevance,
            landmarks=landmarks.T,
            form=form_of(base, inputs.shape[1], *products),
            weights=weights,
            whitening=known,
            unseen=jnp.nanquantile(jnp.where(mask > 0, unknown, jnp.nan), _TYPICAL),
            noise=noise,
            gain=jnp.where(is_kernel, noise / jnp.sqrt(penalty), 0.0),
        )
        return expansion, left_out, noise / jnp.sqrt(left_over(leverage))


def _total(errors: jax.Array, weights: jax.Array) -> jax.Array:
    """One number for squared errors [..., O] of targets of unlike difficulty, [...]."""
    return jnp.sum(weights * jnp.log(errors + 1e-9), axis=-1)

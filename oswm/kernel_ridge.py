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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl_runs import values
from jaxrl_runs.values import FLAG, MANY, SCALES, OneOf, TupleOf, setting
from oswm.closed_form import (
    ClosedForm,
    Fitted,
    Stage,
    least,
    left_over,
    noise_of,
)
from oswm.context import Context
from oswm.expansion import Expansion, Kernel, KernelFit, kernel_features
from oswm.features import quadratic
from oswm.kernel_problem import Problem, terms_of_change
from oswm.landmarks import PROFILES
from oswm.linalg import matmul
from oswm.polynomials import (
    Polynomial,
    blocks_left_out,
    reward_features,
    solve_kernel,
)
from oswm.relevance import RelevanceSearch

# Observations whose kernels are evaluated one by one, which skips those that no target
# chose, and takes long to compile.
_MOST_UNROLLED = 12
_SHARES = (0.0, 0.5)  # Of the reward's kernel that is a sum over inputs.
_SMOOTHNESS = TupleOf(OneOf(tuple(PROFILES)), min_size=1)


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
        return self.fit_scored(context)[:3]

    def fit_scored(self, context):
        """The same, with errors of blocks of rows that are left out together."""
        found = []
        for stage in self._steps:
            found.append(stage.function(context, *found))
        return found[-1]

    @property
    def stages(self):
        """The steps of a fit, unless a subclass fits in another way."""
        is_own = type(self).fit_scored is KernelRidge.fit_scored
        return self._steps if is_own else (Stage(self.fit_scored),)

    @property
    def _steps(self):
        """Where rows are compared with landmarks one by one, XLA has most to gain."""
        return (
            Stage(Problem.of),
            Stage(self._screen, level=1),
            Stage(self._most_promising),
            Stage(self._fit_on_all_landmarks, level=1),
            Stage(_finish),
        )

    def _candidates(self, problem: Problem) -> Candidates:
        """Smoothness, scale, view and share in all combinations.

        Of changes, which see the first of the views, then of the reward.
        """
        views = problem.data.views
        is_live = jnp.any(problem.inputs != 0, axis=0)
        num_live = jnp.maximum(jnp.sum(views * is_live, axis=1, keepdims=True), 1.0)
        relevances = views / jnp.sqrt(num_live) * is_live
        sizes = len(self.smoothness), len(self.length_scales)
        rows, groups, number = [], [], 0
        for num_views, shares in ((1, _SHARES[:1]), (len(views), _SHARES)):
            shape = (*sizes, num_views, len(shares))
            rows.append(np.indices(shape).reshape(4, -1))
            order = number + np.arange(np.prod(shape)).reshape(shape).swapaxes(1, 2)
            groups.append(order.reshape(sizes[0] * num_views, -1))
            number += order.size
        smoothness, scale, view, share = np.concatenate(rows, axis=1)
        scales = np.array(self.length_scales)
        profiles = np.array([PROFILES[name] for name in self.smoothness])
        is_gaussian = self.smoothness == ("gaussian",)
        return Candidates(
            kernels=Kernel(
                relevance=relevances[view] / scales[scale][:, None],
                additive=jnp.array(_SHARES)[share],
                profile=None if is_gaussian else jnp.asarray(profiles)[smoothness],
            ),
            is_reward=(jnp.arange(number) >= groups[0].size).astype(jnp.int32),
            of_change=groups[0],
            of_reward=groups[1],
        )

    def _screen(self, context: Context, problem: Problem) -> jax.Array:
        """Leave-one-out errors on few landmarks [C, 2, T], inf where none is asked."""
        inputs, mask = problem.inputs, context.mask
        candidates = self._candidates(problem)
        few = min(self.num_screening, len(inputs))
        penalties = jnp.asarray(self.penalties)[::2]

        def one_candidate(candidate):
            kernel, is_reward = candidate
            columns, _ = kernel_features(inputs, mask, kernel, few)

            def errors(degree):
                polynomial = problem.polynomial(is_reward, degree)
                flat = polynomial.flatten(columns)
                tried = jax.vmap(solve_kernel, (None, None, 0))(
                    flat, polynomial, penalties
                )
                return jnp.nanmin(jnp.sum(jnp.square(tried.left_out), axis=1), axis=0)

            return jax.lax.map(errors, jnp.arange(2))

        errors = jax.lax.map(one_candidate, (candidates.kernels, candidates.is_reward))
        is_asked = candidates.is_reward[:, None] == problem.is_reward
        return jnp.where(is_asked[:, None], errors, jnp.inf)

    def _most_promising(self, context, problem, errors) -> Tried:
        """Of each target the best of every group, and what is near the best of all.

        Few landmarks favour long scales, so the next shorter one is tried, too, and
        smooth kernels of few inputs, so the best of each group is.
        """
        candidates, number = self._candidates(problem), errors.shape[-1]
        place = least(errors.reshape(-1, number))
        best, degree = jnp.divmod(place, errors.shape[1])  # [T]
        kernels = jax.tree.map(lambda x: x[best], candidates.kernels)
        near = [kernels._replace(relevance=2.0 * kernels.relevance)]
        if self.ard:
            near.append(self._named(context.mask, problem, kernels, degree))

        def tried(targets, groups):
            """Of some targets, their number times that of the groups and of `near`."""
            of_target = errors[:, degree[targets], targets].T  # [targets, C]
            place = least(jnp.moveaxis(of_target[:, groups], -1, 0))
            rows = jnp.asarray(groups)[np.arange(len(groups)), place]
            each = [jax.tree.map(lambda x: x[rows], candidates.kernels)]
            each += [jax.tree.map(lambda x: x[targets][:, None], x) for x in near]
            each = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *each)
            targets = jnp.repeat(targets, each.relevance.shape[1])
            return targets, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), each)

        targets = jnp.arange(number)
        parts = (
            tried(targets[:-1], candidates.of_change),
            tried(targets[-1:], candidates.of_reward),
        )
        return Tried(
            *jax.tree.map(lambda *x: jnp.concatenate(x), *parts), degree=degree
        )

    def _named(self, mask, problem: Problem, kernels: Kernel, degree) -> Kernel:
        """A kernel with a length scale per input, of each target."""

        def one_target(target):
            is_reward = problem.is_reward[target]
            polynomial = problem.polynomial(is_reward, degree[target])
            terms = problem.allowed[2 * is_reward + degree[target]] * problem.features
            start = jax.tree.map(lambda x: x[target], kernels)
            residual = polynomial.residual[:, target, None]
            return self.search(problem.inputs, terms, residual, mask, *start)

        found = jax.lax.map(one_target, jnp.arange(len(degree)))
        return kernels._replace(relevance=found)

    def _fit_on_all_landmarks(self, context, problem, errors, tried) -> Found:
        """Of each target the kernel that predicts blocks of rows best, [T]."""
        del errors
        mask, penalties = context.mask, jnp.asarray(self.penalties)
        size = min(self.num_landmarks, len(problem.inputs))

        @jax.jit  # Traced once for the shapes and for the scan.
        def fit_one(target, kernel):
            degree = tried.degree[target]
            return _fit_one(mask, problem, target, degree, kernel, penalties, size)

        def one_kernel(best, row):
            target, kernel = row
            found = fit_one(target, kernel)
            is_better = found.error < best.error[target]
            best = jax.tree.map(
                lambda new, old: old.at[target].set(
                    jnp.where(is_better, new, old[target])
                ),
                found,
                best,
            )
            return best, None

        rows = tried.target, tried.kernels
        first = jax.tree.map(lambda x: x[0], rows)
        none = jax.tree.map(
            lambda x: jnp.zeros((len(tried.degree), *x.shape), x.dtype),
            jax.eval_shape(fit_one, *first),
        )
        none = dataclasses.replace(none, error=jnp.full_like(none.error, jnp.inf))
        return jax.lax.scan(one_kernel, none, rows)[0]

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
        reward, reward_std = self._reward(fit, obs, action, next_obs)
        mean = jnp.append(scale.restore(change), reward)
        std = jnp.append(scale.std * change_std, reward_std)
        return mean, std

    def _reward(self, fit, obs, action, next_obs):
        """Reward and its deviation, given the next observation."""
        inputs = jnp.concatenate([obs, action, next_obs])
        inputs = fit.reward_scale.normalize(inputs)
        reward, std = fit.reward(inputs, reward_features(inputs, len(obs)))
        scale = jax.tree.map(lambda x: x[-1], fit.target_scale)
        return scale.restore(reward), scale.std * std

    def reward_at(self, fit, obs, action, next_obs, predicted):
        """The reward's kernel, which may look at the next observation."""
        del predicted
        return self._reward(fit, obs, action, next_obs)


class Candidates(NamedTuple):
    """Kernels to choose from.

    Attributes:
        kernels: A leading axis [C].
        is_reward: Whether for the reward, or for changes, int32 [C].
        of_change: Those of changes by smoothness, int [G, ...].
        of_reward: Those of the reward by smoothness and view, int [G, ...].
    """

    kernels: Kernel
    is_reward: jax.Array
    of_change: np.ndarray
    of_reward: np.ndarray


class Tried(NamedTuple):
    """Kernels that are fitted on all landmarks.

    Attributes:
        target: Whose, int32 [K].
        kernels: A leading axis [K].
        degree: Of each target's polynomial, 0 or 1 [T].
    """

    target: jax.Array
    kernels: Kernel
    degree: jax.Array


@struct.dataclass
class Found:
    """A fit of one target.

    Attributes:
        expansion: Its function; weights are those of landmarks' features until
            `_finish`.
        left_out: Residuals of rows that are left out one by one, float32 [N].
        std: Their standard deviations, float32 [N].
        scores: Errors over deviations of rows that are left out in blocks, [N].
        error: By which kernels are compared, float32 scalar.
    """

    expansion: Expansion
    left_out: jax.Array
    std: jax.Array
    scores: jax.Array
    error: jax.Array


def _fit_one(mask, problem, target, degree, kernel, penalties, size) -> Found:
    """Fit a target by a polynomial and a kernel, with the best of the penalties."""
    polynomial = problem.polynomial(problem.is_reward[target], degree)
    polynomial = polynomial.of_target(target)
    columns, (landmarks, whitening) = kernel_features(
        problem.inputs, mask, kernel, size
    )
    flat = polynomial.flatten(columns)
    tried = jax.lax.map(
        lambda penalty: solve_kernel(flat, polynomial, penalty), penalties
    )
    best = least(jnp.sum(jnp.square(tried.left_out), axis=(1, 2)))
    found = jax.tree.map(lambda x: x[best], tried)
    noise = noise_of(found.residual, found.left_out, mask)[0]
    unexplained = jnp.maximum(1.0 - jnp.sum(jnp.square(columns), axis=1), 0.0)
    variance = 1.0 / left_over(found.leverage) + unexplained / penalties[best]
    expansion = Expansion(
        base=polynomial.weights[:, 0],
        kernel=kernel,
        landmarks=landmarks.T,
        weights=found.weights[:, 0],
        whitening=whitening,
        tilt=matmul(polynomial.basis.T, columns),
        half=found.half,
        base_half=polynomial.half,
        penalty=penalties[best],
        noise=noise,
    )
    rows = matmul(flat.columns, found.half.T)
    rows = jnp.concatenate([polynomial.basis, rows], axis=1)
    error, spread = blocks_left_out(rows, found.residual[:, 0])
    return Found(
        expansion=expansion,
        left_out=found.left_out[:, 0],
        std=noise * jnp.sqrt(variance),
        scores=error / (noise * jnp.sqrt(spread + unexplained / penalties[best])),
        error=jnp.sum(jnp.square(error)),
    )


def _finish(context, problem: Problem, errors, tried, found: Found) -> Fitted:
    """All targets in their units, by a polynomial alone where that is better."""
    del errors, tried
    targets = jnp.arange(len(found.error))
    found = jax.lax.map(
        lambda row: _finish_one(context.mask, problem, *row), (targets, found)
    )
    data = problem.data
    std = data.target_scale.std
    fit = KernelFit(*data.scales, *_unpacked(found.expansion, context))
    return Fitted(fit, std * found.left_out.T, std * found.std.T, found.scores.T)


def _finish_one(mask, problem: Problem, target, found: Found) -> Found:
    """Weights of kernel values rather than of features, or a polynomial alone."""
    is_reward, expansion = problem.is_reward[target], found.expansion
    polynomials = jax.tree.map(
        lambda *x: jnp.stack(x),
        *(problem.polynomial(is_reward, degree) for degree in (0, 1)),
    )
    weights = expansion.weights
    tilt = matmul(expansion.base_half.T, expansion.tilt)
    expansion = dataclasses.replace(
        expansion,
        base=expansion.base - matmul(tilt, weights),
        weights=matmul(expansion.whitening.T, weights),
        tilt=tilt,
    )
    with_kernel = dataclasses.replace(found, expansion=expansion)
    errors = jnp.sum(jnp.square(polynomials.left_out[..., target]), axis=1)
    simple = jax.tree.map(lambda x: x[least(errors)], polynomials)
    without = _without_kernel(with_kernel, simple, target, mask)
    is_better = jnp.sum(jnp.square(found.left_out)) < jnp.nanmin(errors)
    is_better &= jnp.isfinite(found.error)  # Else no kernel could be fitted.
    return jax.tree.map(lambda a, b: jnp.where(is_better, a, b), with_kernel, without)


def _without_kernel(found: Found, simple: Polynomial, target, mask) -> Found:
    """A fit of a polynomial alone, shaped as one with a kernel."""
    residual, left_out = simple.residual[:, target], simple.left_out[:, target]
    noise = noise_of(residual[:, None], left_out[:, None], mask)[0]
    error, spread = blocks_left_out(simple.basis, residual)
    return Found(
        expansion=dataclasses.replace(
            jax.tree.map(jnp.zeros_like, found.expansion),
            base=simple.weights[:, target],
            base_half=simple.half,
            penalty=jnp.float32(jnp.inf),
            noise=noise,
        ),
        left_out=left_out,
        std=noise / jnp.sqrt(left_over(simple.leverage)),
        scores=error / (noise * jnp.sqrt(spread)),
        error=found.error,
    )


def _unpacked(expansion: Expansion, context: Context) -> tuple[Any, Expansion]:
    """Changes rid of what they do not see, and the reward, from all targets [T]."""
    reward = jax.tree.map(lambda x: x[-1], expansion)
    change = jax.tree.map(lambda x: x[:-1], expansion)
    num_before = context.obs_size + context.action_size
    terms = terms_of_change(num_before, num_before + context.obs_size)
    terms = np.insert(1 + terms, 0, 0)
    kernel = change.kernel
    change = dataclasses.replace(
        change,
        base=change.base[:, terms],
        kernel=Kernel(kernel.relevance[:, :num_before], None, kernel.profile),
        landmarks=change.landmarks[:, :num_before],
        tilt=change.tilt[:, terms],
        base_half=change.base_half[:, terms][:, :, terms],
    )
    if context.obs_size > _MOST_UNROLLED:
        return change, reward
    each = range(context.obs_size)
    return tuple(jax.tree.map(lambda x, i=i: x[i], change) for i in each), reward

"""Length scales per input (automatic relevance determination), fitted to a context.

The marginal likelihood of what a polynomial leaves of the targets is climbed by a few
dozen steps of Adam on the logarithms of each input's relevance and of the noise. Some
hundred rows are enough to tell inputs apart, and keep a step at a millisecond or two.
Its gradient with respect to the kernel matrix is written out, so that nothing is
differentiated through a factorisation.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), sections
2.7 (what a basis explains is projected out) and 5.4.1; the targets' variances are
profiled out, so that several targets can share a kernel whatever their units.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxrl_runs import values
from jaxrl_runs.values import INDEX, MANY, RATE, setting
from oswm.kernel_guess import KernelGuess, describe, shipped_guess
from oswm.landmarks import radial, radial_slope
from oswm.linalg import inverse_factor, matmul

_LARGEST_LOG_CHANGE = 5.0
FIRST_NOISE = 1e-2
_LEAST_NOISE, _LARGEST_NOISE = 1e-5, 1e2


@dataclasses.dataclass(frozen=True)
class RelevanceSearch:
    """Settings of the climb.

    Attributes:
        num_steps: Steps of Adam; 0 takes the guess as it is.
        num_rows: Rows of the context that are looked at, at most.
        learning_rate: Of Adam, in natural logarithms of relevances.
        guess: A network that says where to start, as good as 30 steps: "shipped" for
            the one that ships with the package, or what `oswm.load_guess` read; without
            one the climb starts from one length scale for all inputs.
    """

    num_steps: int = setting(30, INDEX)
    num_rows: int = setting(192, MANY)
    learning_rate: float = setting(0.15, RATE)
    guess: KernelGuess | str | None = None

    def __post_init__(self):
        values.check(self)
        if not (self.guess in (None, "shipped") or isinstance(self.guess, KernelGuess)):
            raise ValueError(
                'guess must be "shipped", a network of oswm.load_guess, or None, got '
                f"{self.guess!r}"
            )

    def __call__(
        self,
        inputs: jax.Array,
        basis: jax.Array,
        targets: jax.Array,
        mask: jax.Array,
        start: jax.Array,
        additive: jax.Array | None = None,
        profile: jax.Array | None = None,
    ) -> jax.Array:
        """Relevances of the largest marginal likelihood that was met.

        Args:
            inputs: Standardised, float32 [N, D], 0 in rows that are not in use.
            basis: Features of the polynomial, float32 [N, 1 + P], likewise.
            targets: float32 [N, O], likewise; they share the relevances, on which those
                that are 0 everywhere have no say.
            mask: 1 for rows in use, float32 [N].
            start: Relevances to start from, float32 [D]; what is 0 stays 0.
            additive: As for `oswm.landmarks.kernel`.
            profile: Likewise.

        Returns:
            Relevances, float32 [D].
        """
        rows = choose_rows(mask, min(self.num_rows, len(mask)))
        inputs, basis, targets, mask = (x[rows] for x in (inputs, basis, targets, mask))
        flat = Flattened.of(basis, targets, mask)
        place = self.climb(inputs, flat, start, additive, profile)
        return (start > 0) * jnp.exp(place[:-1])

    def climb(
        self,
        inputs: jax.Array,
        flat: Flattened,
        start: jax.Array,
        additive: jax.Array | None = None,
        profile: jax.Array | None = None,
    ) -> jax.Array:
        """Logarithms of relevances, then of the noise over the kernel's, [D + 1].

        Args:
            inputs: Of all rows that are looked at, [N, D].
            flat: What the polynomial leaves of them.
            start: As above, like the next two.
            additive: Likewise.
            profile: Likewise.
        """
        is_used = (start > 0).astype(inputs.dtype)
        start_log = jnp.log(jnp.where(start > 0, start, 1.0))
        place = jnp.append(start_log, jnp.log(FIRST_NOISE))
        if self.guess is not None:
            guess = shipped_guess() if isinstance(self.guess, str) else self.guess
            kind = is_used, additive, profile
            place = make_guess(guess, inputs, flat, place, *kind)

        def advance(index, carry):
            place, best, moments = carry
            value, gradient = likelihood(
                inputs, flat, place, is_used, additive, profile
            )
            is_better = value > best[0]
            best = jax.tree.map(
                lambda new, old: jnp.where(is_better, new, old), (value, place), best
            )
            moments, direction = _adam(moments, gradient, index)
            place = place + self.learning_rate * direction
            relevance = jnp.clip(
                place[:-1],
                start_log - _LARGEST_LOG_CHANGE,
                start_log + _LARGEST_LOG_CHANGE,
            )
            noise = jnp.clip(place[-1], jnp.log(_LEAST_NOISE), jnp.log(_LARGEST_NOISE))
            return jnp.append(relevance, noise), best, moments

        carry = place, (-jnp.inf, place), (jnp.zeros_like(place),) * 2
        _, (_, best), _ = jax.lax.fori_loop(0, self.num_steps, advance, carry)
        return best


def make_guess(
    guess, inputs, flat: Flattened, start, is_used, additive, profile=None
) -> jax.Array:
    """Where a network would go from `start` [D + 1]; see `RelevanceSearch.climb`."""
    about = describe(inputs, flat.targets, flat.mask, flat.num_free)
    rate = per_row(flat)

    def at(place):
        value, slope = likelihood(inputs, flat, place, is_used, additive, profile)
        return rate * value, rate * slope

    return guess(at, start, is_used, about)


def per_row(flat: Flattened) -> jax.Array:
    """What makes a likelihood that of a row and a target."""
    num_asked = jnp.sum(jnp.sum(jnp.square(flat.targets), axis=0) > 0)
    return 1.0 / (jnp.maximum(num_asked, 1) * flat.num_free)


def choose_rows(mask: jax.Array, number: int) -> jax.Array:
    """Rows [number] drawn from those in use, the same for the same mask."""
    draws = jax.random.uniform(jax.random.key(0), mask.shape)
    return jax.lax.top_k(jnp.where(mask > 0, draws, -1.0), number)[1]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Flattened:
    """What a polynomial leaves.

    Attributes:
        targets: float32 [N, O].
        basis: Orthonormal, float32 [N, 1 + P]; 0 where features repeat each other.
        half: From features to the basis, float32 [1 + P, 1 + P].
        mask: float32 [N].
        num_free: Rows in use minus those that the polynomial explains.
    """

    targets: jax.Array
    basis: jax.Array
    half: jax.Array
    mask: jax.Array
    num_free: jax.Array

    @classmethod
    def of(cls, features: jax.Array, targets: jax.Array, mask: jax.Array) -> Flattened:
        """From features [N, 1 + P] and targets [N, O], 0 in rows not in use."""
        gram = matmul(features.T, features)
        gram = gram + 1e-5 * jnp.sum(mask) * jnp.eye(len(gram))
        half = inverse_factor(gram)
        basis = matmul(features, half.T)
        targets = targets - matmul(basis, matmul(basis.T, targets))
        num_free = jnp.sum(mask) - jnp.sum(jnp.square(basis))
        return cls(targets, basis, half, mask, jnp.maximum(num_free, 1.0))

    def project(self, matrix: jax.Array) -> jax.Array:
        """Both sides of a symmetric matrix [N, N], rid of the basis."""
        half = matrix - matmul(self.basis, matmul(self.basis.T, matrix))
        return half - matmul(matmul(half, self.basis), self.basis.T)


def kernel_matrix(
    points: jax.Array,
    is_used: jax.Array,
    additive: jax.Array | None,
    profile: jax.Array | None = None,
) -> jax.Array:
    """`oswm.landmarks.kernel` of all pairs of points [N, D], [N, N]."""
    joint = radial(_squares(points), profile)
    if additive is None:
        return joint
    num_used = jnp.maximum(jnp.sum(is_used), 1.0)

    def with_sum():
        def one_input(total, column):
            x, used = column
            each = radial(num_used * jnp.square(x[:, None] - x), profile)
            return total + used * each / num_used, None

        columns = points.T, is_used
        each, _ = jax.lax.scan(one_input, jnp.zeros_like(joint), columns)
        return joint + additive * (each - joint)

    return jax.lax.cond(additive > 0, with_sum, lambda: joint)


def _squares(points: jax.Array) -> jax.Array:
    """Squared distances of all pairs of points [N, D], [N, N]."""
    square = jnp.sum(jnp.square(points), axis=1)
    distance = square[:, None] + square - 2 * matmul(points, points.T)
    return jnp.maximum(distance, 0.0)


def likelihood(inputs, flat: Flattened, place, is_used, additive, profile=None):
    """Log marginal likelihood, up to a constant, and its gradient at `place`."""
    noise = jnp.exp(place[-1])
    outer = flat.mask[:, None] * flat.mask
    points = is_used * jnp.exp(place[:-1]) * inputs
    values = kernel_matrix(points, is_used, additive, profile)
    size = len(inputs)
    covariance = flat.project(outer * values) + noise * jnp.eye(size)
    half = inverse_factor(covariance)
    inverse = matmul(half.T, half)
    solved = matmul(inverse, flat.targets)
    power = jnp.sum(flat.targets * solved, axis=0) / flat.num_free
    is_asked = power > 0
    num_targets = jnp.sum(is_asked)
    power = jnp.where(is_asked, power, 1.0)
    # Rows not in use and directions of the basis are noise alone, by construction.
    log_det = -2 * jnp.sum(jnp.log(jnp.diag(half)))
    log_det = log_det - (size - flat.num_free) * place[-1]
    value = -0.5 * flat.num_free * jnp.sum(jnp.log(power)) - 0.5 * num_targets * log_det
    weighted = solved / jnp.sqrt(power)
    of_matrix = 0.5 * (matmul(weighted, weighted.T) - num_targets * inverse)
    of_noise = noise * jnp.trace(of_matrix)
    of_noise = of_noise + 0.5 * num_targets * (size - flat.num_free)
    of_values = outer * flat.project(of_matrix)
    slope = _gradient(points, is_used, of_values, additive, profile)
    return value, jnp.append(is_used * slope, of_noise)


def _gradient(points, is_used, weights, additive, profile) -> jax.Array:
    """Of a weighted sum of `kernel_matrix`'s values, by logarithms of relevances, [D].

    Args:
        points: In units of the kernel, [N, D].
        is_used: [D].
        weights: Symmetric, [N, N].
        additive: As for the matrix.
        profile: Likewise.
    """

    def slope(squares):
        if profile is None:
            return -0.5 * radial(squares, None)
        return radial_slope(squares, profile)

    joint = _joint_gradient(points, -2 * weights * slope(_squares(points)))
    if additive is None:
        return joint
    num_used = jnp.maximum(jnp.sum(is_used), 1.0)

    def one_input(column):
        squares = num_used * jnp.square(column[:, None] - column)
        return jnp.sum(2 * weights * slope(squares) * squares) / num_used

    def with_sum():
        each = jax.lax.map(one_input, points.T)
        return joint + additive * (each - joint)

    return jax.lax.cond(additive > 0, with_sum, lambda: joint)


def _joint_gradient(points: jax.Array, weights: jax.Array) -> jax.Array:
    """Of a kernel with respect to the logarithms of relevances, [D].

    Args:
        points: In units of the kernel, [N, D].
        weights: What the kernel's values weigh, times -2 times their derivatives with
            respect to the squared distance, which of a Gaussian are the values
            themselves; symmetric, [N, N].
    """
    own = jnp.sum(jnp.square(points) * jnp.sum(weights, axis=1)[:, None], axis=0)
    return 2 * (jnp.sum(points * matmul(weights, points), axis=0) - own)


def _adam(moments, gradient, index):
    """Adam's next moments and direction of ascent, of a size of about 1."""
    first = 0.8 * moments[0] + 0.2 * gradient
    second = 0.95 * moments[1] + 0.05 * jnp.square(gradient)
    count = index + 1.0
    mean = first / (1 - 0.8**count)
    size = jnp.sqrt(second / (1 - 0.95**count))
    return (first, second), mean / (size + 1e-8)

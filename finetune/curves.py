"""What a learning curve may still become: a wide prior of shapes, and its posterior.

A run scores ``base + (level - base) * shape[e]`` after epoch e, plus noise. The shape
is one of a library that rises fast or slowly, at once or late, by exponentials or
powers, may overfit, and is scaled to a peak of one; level and base are Gaussian, so
that given a shape and a noise level everything is in closed form. How common each
shape and noise level is, is learned from all runs of the task itself: nothing was
trained beforehand, and a task of slow starters is recognised after its first runs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import ndtr

NOISES = np.array([0.005, 0.03, 0.12])
_FORGET = 0.9  # weight of an epoch against the next one: no shape fits a whole curve


def gaussian_gain(mean, std, best):
    """E[max(value - best, 0)] and P[value > best] of a Gaussian, elementwise."""
    z = (mean - best) / std
    chance = ndtr(z)
    return std * (np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) + z * chance), chance


def shape_library(num_epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shapes ``[K, T]`` with a peak of 1, and their prior probabilities."""
    epochs = np.arange(1, num_epochs + 1.0)
    pace = np.geomspace(0.15, 3 * num_epochs, 10)
    families = [
        [1 - np.exp(-((epochs / tau) ** power)) for tau in pace]
        for power in (0.5, 1.0, 2.0, 4.0)
    ]
    families.append([1 - (1 + epochs / tau) ** -0.7 for tau in pace])
    overfitting = []
    for tau in np.geomspace(0.3, num_epochs / 3, 3):
        for peak in (0.25, 0.5):
            for fall in (0.3, 0.9):
                late = np.maximum(epochs / num_epochs - peak, 0)
                overfitting.append(1 - np.exp(-epochs / tau) - fall * late)
    families.append(overfitting)
    shapes = np.array([shape for family in families for shape in family])
    prior = np.concatenate([np.full(len(f), 1 / len(f)) for f in families])
    return shapes / shapes.max(1, keepdims=True), prior / prior.sum()


@dataclasses.dataclass(frozen=True)
class CurvePosterior:
    """Of ``R`` runs, for each of ``K`` shapes x ``L`` noise levels.

    Attributes:
        log_evidence: ``[R, K, L]``, without the prior of shapes.
        base: Mean of the base, ``[R, K, L]``.
        level: Mean of the level, ``[R, K, L]``.
        var_base: ``[R, K, L]``.
        var_level: ``[R, K, L]``.
        covariance: Of both, ``[R, K, L]``.
    """

    log_evidence: np.ndarray
    base: np.ndarray
    level: np.ndarray
    var_base: np.ndarray
    var_level: np.ndarray
    covariance: np.ndarray


def fit_curves(
    shapes: np.ndarray,
    curves: np.ndarray,
    lengths: np.ndarray,
    base: tuple[float, float],
    level_mean: np.ndarray,
    level_var: np.ndarray,
) -> CurvePosterior:
    """Condition each run on its own curve.

    Args:
        shapes: ``[K, T]``.
        curves: Scaled scores, ``[R, T]``; what stands after the end is not looked at.
        lengths: Observed epochs, ``[R]``.
        base: Mean and variance of the base.
        level_mean: Prior of the level, ``[R]``.
        level_var: Its variance, ``[R]``.
    """
    age = lengths[:, None] - 1 - np.arange(curves.shape[1])
    weight = np.where(age >= 0, _FORGET ** np.maximum(age, 0), 0.0)
    known = np.where(age >= 0, curves, 0.0)
    rest = 1 - shapes
    noise = NOISES**2
    s11 = (weight @ (rest**2).T)[..., None] / noise
    s12 = (weight @ (rest * shapes).T)[..., None] / noise
    s22 = (weight @ (shapes**2).T)[..., None] / noise
    t1 = ((weight * known) @ rest.T)[..., None] / noise
    t2 = ((weight * known) @ shapes.T)[..., None] / noise
    yy = (weight * known**2).sum(1)[:, None, None] / noise
    mean, var = level_mean[:, None, None], level_var[:, None, None]
    p11, p22 = s11 + 1 / base[1], s22 + 1 / var
    h1, h2 = t1 + base[0] / base[1], t2 + mean / var
    determinant = p11 * p22 - s12**2
    v11, v22, v12 = p22 / determinant, p11 / determinant, -s12 / determinant
    m1, m2 = v11 * h1 + v12 * h2, v12 * h1 + v22 * h2
    fit = yy + base[0] ** 2 / base[1] + mean**2 / var - m1 * h1 - m2 * h2
    log_det = np.log(determinant) + np.log(base[1]) + np.log(var)
    count = weight.sum(1)[:, None, None]
    evidence = -0.5 * (fit + log_det + count * np.log(noise))
    return CurvePosterior(evidence, m1, m2, v11, v22, v12)


def share_shapes(
    log_evidence: np.ndarray, lengths: np.ndarray, prior: np.ndarray, strength: float
) -> np.ndarray:
    """Learn how common each shape and noise level is on this task, ``[K, L]``.

    A few steps of expectation maximisation with a Dirichlet prior that counts as
    ``strength`` runs; a run counts as far as its length can tell shapes apart.
    """
    start = np.repeat(prior[:, None], len(NOISES), 1) / len(NOISES)
    likelihood = np.exp(log_evidence - log_evidence.max((1, 2), keepdims=True))
    counts = np.clip((lengths - 1) / 4, 0, 1)
    shared = start
    for _ in range(4):
        mass = likelihood * shared
        mass = mass / mass.sum((1, 2), keepdims=True)
        shared = strength * start + (counts[:, None, None] * mass).sum(0)
        shared = shared / shared.sum()
    return shared


def mix(log_evidence: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Posterior probabilities of shapes and noise levels, ``[R, K, L]``."""
    mass = np.exp(log_evidence - log_evidence.max((1, 2), keepdims=True)) * shared
    return mass / mass.sum((1, 2), keepdims=True)


class CurveModel:
    """What the curves of one task have in common.

    Args:
        num_epochs: Budget of a run.
        strength: How many runs the prior of shapes counts as.

    Attributes:
        low: Where scaled scores are 0.
        scale: How far above that they are 1.
        bend: How much more a step at the bottom counts than one at the top; 0: alike.
        level_mean: Mean of the levels of all configurations, scaled.
        level_var: Variance of the levels.
        base: Mean and variance of the bases.
        shared: How common each shape and noise level is, ``[K, L]``.
    """

    def __init__(self, num_epochs: int, strength: float = 3.0):
        self.shapes, self.prior = shape_library(num_epochs)
        self.strength = strength
        self.level_mean, self.level_var = 0.6, 0.16
        self.base = (0.0, 0.04)
        self.low, self.scale, self.bend = 0.0, 1.0, 0.0

    def scale_scores(self, scores):
        """Shift and scale, so that 0 is a bad start and 1 the best of all.

        Where most runs come to little and a few to much, steps at the bottom count
        more than at the top, as on a logarithmic scale (see `_bend_for`).
        """
        share = (scores - self.low) / self.scale
        if self.bend > 0:
            bent = np.log1p(self.bend * np.abs(share)) / np.log1p(self.bend)
            share = np.sign(share) * bent
        return np.maximum(share, -1.0)

    def unscale(self, scaled):
        """What was told for a scaled score; the inverse of `scale_scores`."""
        share = scaled
        if self.bend > 0:
            size = np.expm1(np.abs(scaled) * np.log1p(self.bend)) / self.bend
            share = np.sign(scaled) * size
        return self.low + self.scale * share

    def refresh(self, curves, lengths) -> tuple[np.ndarray, np.ndarray]:
        """Learn from all runs; returns each one's level and its variance, ``[R]``.

        What the prior of the level says is divided out again, so that the returned
        values are observations.
        """
        seen = np.arange(curves.shape[1]) < lengths[:, None]
        best = np.where(seen, curves, -np.inf).max()
        # a bad start, but not that of a run which exploded
        middle = np.median(curves[:, 0])
        worst = middle - 3 * (best - middle)
        self.low = max(np.quantile(curves[:, 0], 0.1), worst)
        self.scale = max(best - self.low, 1e-3 * abs(best), 1e-9)
        peaks = np.where(seen, curves, -np.inf).max(1)
        self.bend = _bend_for(np.median(peaks - self.low) / self.scale)
        scaled = self.scale_scores(curves)
        self._learn(scaled, lengths)
        mean, var, m, v = self._learn(scaled, lengths)
        noise = 1 / (1 / v - 1 / var)
        return noise * (m / v - mean / var), noise

    def _learn(self, scaled, lengths):
        """One round: levels of the runs given the task, then the task given these.

        Returns:
            Mean and variance of the prior of the levels that was used; mean and
            variance of each run's level, ``[R]``.
        """
        mean, var, num = self.level_mean, self.level_var, len(scaled)
        prior = np.full(num, mean), np.full(num, var)
        found = fit_curves(self.shapes, scaled, lengths, self.base, *prior)
        self.shared = share_shapes(
            found.log_evidence, lengths, self.prior, self.strength
        )
        weight = mix(found.log_evidence, self.shared)
        m = (weight * found.level).sum((1, 2))
        v = (weight * (found.var_level + found.level**2)).sum((1, 2)) - m**2
        v = np.clip(v, 1e-6, 0.999 * var)
        known = 1 - v / var
        total = 2 + known.sum()
        self.level_mean = (2 * 0.6 + (known * m).sum()) / total
        spread = (known * ((m - self.level_mean) ** 2 + v)).sum()
        self.level_var = max((2 * 0.16 + spread) / total, 1e-4)
        base = (weight * found.base).sum((1, 2))
        center = base.sum() / (num + 1)
        spread = 0.02 + ((base - center) ** 2).sum()
        self.base = (center, spread / (num + 1) + 1e-3)
        return mean, var, m, v

    def condition(self, curves, lengths, level_mean, level_var):
        """Posterior of some runs, with the weights of shapes and noise levels."""
        found = fit_curves(
            self.shapes,
            self.scale_scores(curves),
            lengths,
            self.base,
            level_mean,
            level_var,
        )
        return found, mix(found.log_evidence, self.shared)

    def look_ahead(self, posterior, run, epochs, best):
        """Expected gain over ``best`` and its chance at some later epochs, ``[O]``."""
        weight, mean, var = self._ahead(posterior, run, epochs)
        gain, chance = gaussian_gain(mean, np.sqrt(var), best)
        return weight @ gain, weight @ chance

    def moments(self, posterior, run, epochs):
        """Mean and standard deviation at some later epochs, ``[O]``."""
        return _moments(*self._ahead(posterior, run, epochs))

    def moments_fresh(self, level_mean, level_var, epochs):
        """As `moments`, for one run that was never trained."""
        level = np.array([level_mean]), np.array([level_var])
        weight, mean, var = self._ahead_fresh(*level, epochs)
        return _moments(weight, mean[0], var[0])

    def _ahead(self, posterior, run, epochs):
        """Weights ``[k]`` of what is possible, means and variances ``[k, O]``."""
        found, weight = posterior
        kept = weight[run] > 1e-3
        weight = weight[run][kept] / weight[run][kept].sum()
        shape = self.shapes[np.nonzero(kept)[0]][:, epochs - 1]
        rest = 1 - shape

        def of(x):
            return x[run][kept][:, None]

        mean = of(found.base) * rest + of(found.level) * shape
        var = rest**2 * of(found.var_base) + shape**2 * of(found.var_level)
        var = var + 2 * rest * shape * of(found.covariance)
        return weight, mean, np.maximum(var, 1e-8)

    def _ahead_fresh(self, level_mean, level_var, epochs):
        """Weights ``[k]``, means and variances ``[F, k, O]``."""
        weight = self.shared.sum(1)
        kept = weight > 2e-3
        weight = weight[kept] / weight[kept].sum()
        shape = self.shapes[kept][:, epochs - 1]
        rest = 1 - shape
        mean = self.base[0] * rest + level_mean[:, None, None] * shape
        var = rest**2 * self.base[1] + shape**2 * level_var[:, None, None]
        return weight, mean, np.maximum(var, 1e-8)


def _bend_for(middle: float) -> float:
    """The bend ``x`` of ``log(1 + x s) / log(1 + x)`` that puts the middle run at 1/3.

    From ``(1 + middle x)^3 = 1 + x``; 0 where the middle run is there by itself.
    """
    q = max(middle, 0.01)
    return max((np.sqrt(max(4 * q - 3 * q * q, 0.0)) - 3 * q) / (2 * q * q), 0.0)


def _moments(weight, mean, var):
    """Mean and standard deviation of a mixture of Gaussians."""
    center = weight @ mean
    return center, np.sqrt(weight @ (var + (mean - center) ** 2))

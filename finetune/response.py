"""How hyperparameters act on a number, learned from the runs of one task alone.

A Gaussian process with a Matern-5/2 kernel over the configurations, one relevance per
hyperparameter. Instead of one fit, a few settings ("particles") take a Metropolis step
at each decision, so the answer is an average over what the runs allow: with five runs
nearly the prior, with fifty close to a fit, and no optimiser that can fail.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), sections
4.2.1, 5.2 and 5.4.2.
"""

from __future__ import annotations

import numpy as np

from finetune.space import Categorical, Config, Float, SearchSpace


def unit_columns(
    space: SearchSpace, configs: list[Config]
) -> tuple[np.ndarray, np.ndarray]:
    """Encode configurations so that distances mean something.

    Returns:
        ``[R, H]``, numbers in [0, 1] (one half where absent), one-hot columns scaled so
        that two choices are 1 apart; and the hyperparameter of each column, ``[H]``.
    """
    columns, owner = [], []
    for i, h in enumerate(space.hyperparameters):
        values = [config.get(h.name) for config in configs]
        if isinstance(h, Categorical):  # choices that no candidate has need no column
            chosen = [
                h.index(v) if h.name in c else -1
                for v, c in zip(values, configs, strict=True)
            ]
            for choice in sorted(set(chosen) - {-1}):
                columns.append([np.sqrt(0.5) * (c == choice) for c in chosen])
                owner.append(i)
            continue
        bounds = (h.low, h.high) if isinstance(h, Float) else h.choices
        low, high = min(bounds), max(bounds)
        floor = min((b for b in bounds if b > 0), default=1.0)
        floor = floor / 10 if low <= 0 else floor

        def scaled(value, h=h, floor=floor):
            return np.log(max(value, floor)) if h.log else float(value)

        width = max(scaled(high) - scaled(low), 1e-12)
        columns.append(
            [0.5 if v is None else (scaled(v) - scaled(low)) / width for v in values]
        )
        owner.append(i)
        if h.optional or h.condition is not None:
            columns.append([0.5 * (v is None) for v in values])
            owner.append(i)
    if not columns:  # one configuration, or none that differ
        columns, owner = [np.zeros(len(configs))], [0]
    return np.array(columns, float).T, np.array(owner)


class Response:
    """Posterior of a function of the configuration, averaged over particles.

    Args:
        columns: All candidates, ``[C, H]``.
        owner: Hyperparameter of each column, ``[H]``.
        seed: Of the particles.
        num_particles: How many.
    """

    def __init__(self, columns, owner, seed: int, num_particles: int = 4):
        self.columns, self.owner = columns, owner
        self.num = int(owner.max()) + 1
        self._random = np.random.default_rng(seed)
        self.particles = np.stack([self._draw() for _ in range(num_particles)])

    def _draw(self) -> np.ndarray:
        """Logs of the relevances, and the logit of the unexplained share."""
        relevance = self._random.normal(0.0, 1.5, self.num)
        return np.r_[relevance, self._random.normal(-2.5, 1.0)]

    def _log_prior(self, particles):
        relevance, share = particles[:, :-1], particles[:, -1]
        return -0.5 * (((relevance - 0.0) / 1.5) ** 2).sum(1) - 0.5 * (share + 2.5) ** 2

    def _kernel(self, particles, rows, others):
        """Matern 5/2 of each particle, ``[P, R, O]``, of unit variance."""
        weight = np.exp(particles[:, :-1])[:, self.owner]  # [P, H]
        scaled = rows[None] * np.sqrt(weight)[:, None]
        other = others[None] * np.sqrt(weight)[:, None]
        square = (
            (scaled**2).sum(2)[:, :, None]
            + (other**2).sum(2)[:, None]
            - 2 * scaled @ other.transpose(0, 2, 1)
        )
        distance = np.sqrt(5 * np.maximum(square, 1e-12))
        return (1 + distance + distance**2 / 3) * np.exp(-distance)

    def _invert(self, particles, rows, residual, noise):
        """Inverse covariances ``[P, n, n]`` and log posteriors of the particles."""
        share = 1 / (1 + np.exp(-particles[:, -1]))
        covariance = self._kernel(particles, rows, rows) * (1 - share)[:, None, None]
        covariance += np.eye(len(rows)) * (noise + 1e-6)
        covariance += np.eye(len(rows)) * share[:, None, None]
        inverse = np.linalg.inv(covariance)
        fit = np.einsum("i,pij,j->p", residual, inverse, residual)
        log_det = np.linalg.slogdet(covariance)[1]
        return inverse, -0.5 * (fit + log_det) + self._log_prior(particles)

    def predict(
        self,
        rows: np.ndarray,
        residual: np.ndarray,
        noise: np.ndarray,
        num_steps: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move the particles, and predict all candidates.

        Args:
            rows: Observed candidates, ``[n]``.
            residual: Observed value minus mean, in standard deviations, ``[n]``.
            noise: Its variance, ``[n]``.
            num_steps: Metropolis steps.

        Returns:
            Mean and variance of the value of each candidate, ``[C]``; the share that
            hyperparameters do not explain is in the variance. An observed candidate is
            predicted from the others alone.
        """
        observed = self.columns[rows]
        inverse, score = self._invert(self.particles, observed, residual, noise)
        for _ in range(num_steps):
            step = self._random.normal(size=self.particles.shape)
            step *= self._random.choice([0.3, 1.0, 2.0])
            step *= self._random.uniform(size=step.shape) < 0.5
            proposal = np.clip(self.particles + step, -6, 6)
            new_inverse, new_score = self._invert(proposal, observed, residual, noise)
            accept = np.log(self._random.uniform(size=len(score))) < new_score - score
            self.particles = np.where(accept[:, None], proposal, self.particles)
            inverse = np.where(accept[:, None, None], new_inverse, inverse)
            score = np.where(accept, new_score, score)
        share = 1 / (1 + np.exp(-self.particles[:, -1]))
        cross = self._kernel(self.particles, self.columns, observed)
        cross *= (1 - share)[:, None, None]
        projected = cross @ inverse
        mean = projected @ residual
        var = 1 - (projected * cross).sum(2)
        # leave one out: section 5.4.2 of the source
        alone = 1 / np.diagonal(inverse, axis1=1, axis2=2)
        mean[:, rows] = residual - (inverse @ residual) * alone
        var[:, rows] = alone - noise
        var = np.maximum(var, 1e-6)
        return mean.mean(0), var.mean(0) + mean.var(0)

    def correlation(self, row: int) -> np.ndarray:
        """Prior correlation of all candidates with one of them, ``[C]``."""
        kernel = self._kernel(self.particles, self.columns, self.columns[[row]])
        return kernel[..., 0].mean(0)

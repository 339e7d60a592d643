"""A greedy ensemble, and the score of an any-time learner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def of_truth(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of what was the case.

    Args:
        probabilities: ``[n, classes]``; for several labels ``[n, labels]``.
        labels: Classes, int ``[n]``; for several labels bool ``[n, labels]``.

    Returns:
        Of the shape of ``labels``.
    """
    if labels.ndim == 2:
        return np.where(labels, probabilities, 1 - probabilities)
    return probabilities[np.arange(len(labels)), labels]


def _loss(right: np.ndarray, axes: tuple[int, ...] | None = None) -> np.ndarray:
    return -np.log(np.clip(right, 1e-6, 1.0)).mean(axes)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood, of `of_truth`'s arguments."""
    return float(_loss(of_truth(probabilities, labels)))


def greedy_ensemble(
    candidates: Sequence[np.ndarray], labels: np.ndarray, size: int = 20
) -> np.ndarray:
    """Weights of candidates, chosen one by one with repetition.

    Source: Caruana et al., Ensemble Selection from Libraries of Models (2004).

    Args:
        candidates: Probabilities of held-out rows, as `of_truth` takes them.
        labels: As `of_truth` takes them.
        size: Most choices; it stops when none lowers the loss.

    Returns:
        ``[len(candidates)]``, summing to 1.
    """
    counts = np.zeros(len(candidates))
    right = np.stack([of_truth(c, labels) for c in candidates])
    total = np.zeros_like(right[0])
    loss = np.inf
    for num in range(size):
        losses = _loss((total + right) / (num + 1), tuple(range(1, right.ndim)))
        best = int(np.argmin(losses))
        if losses[best] >= loss - 1e-6:
            break
        loss = losses[best]
        counts[best] += 1
        total = total + right[best]
    return counts / counts.sum()


def area_under_learning_curve(
    seconds: Sequence[float], scores: Sequence[float], budget: float, scale: float = 60
) -> float:
    """Area under a step curve of scores over transformed time.

    Time t counts as ``log(1 + t / scale) / log(1 + budget / scale)``, so early seconds
    count most; before the first prediction the score is 0. Source: Liu et al., Winning
    Solutions and Post-Challenge Analyses of the ChaLearn AutoDL Challenge 2019 (2021).

    Args:
        seconds: When predictions were written, increasing.
        scores: Of these predictions.
        budget: Seconds at which the curve ends.
        scale: Seconds; the challenges' is 60.
    """
    times = np.clip(np.asarray(seconds, float), 0, budget)
    moved = np.log1p(np.r_[times, budget] / scale) / np.log1p(budget / scale)
    return float((np.asarray(scores, float) * np.diff(moved)).sum())

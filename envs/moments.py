"""Mean and deviation of observations, kept while playing."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
class Moments:
    """Count, mean and mean square deviation of flattened observations.

    Attributes:
      count: How many.
      mean: float64 `[obs_size]`; 0 before the first.
      variance: float64 `[obs_size]`, likewise.
    """

    count: int = 0
    mean: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    variance: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))

    def add(self, obs: np.ndarray) -> None:
        """Counts a batch of observations `[N, ...]`."""
        if not len(obs):
            return
        flat = np.asarray(obs, np.float64).reshape(len(obs), -1)
        self.merge(Moments(len(flat), flat.mean(axis=0), flat.var(axis=0)))

    def merge(self, other: Moments) -> None:
        """Counts what another one has counted (Chan et al., 1983)."""
        if not other.count:
            return
        share = other.count / (self.count + other.count)
        difference = other.mean - self.mean
        self.variance = (
            (1 - share) * self.variance
            + share * other.variance
            + share * (1 - share) * np.square(difference)
        )
        self.mean = self.mean + share * difference
        self.count += other.count

"""How far a model of the task is to be trusted: what it promised against what came.

The model claims for each run how much the best score gains per second that is spent on
it. Whether that holds on this task is not known beforehand, and shows with every epoch:
the ratio of the gains that came to those that were claimed says which share of the
seconds the model may direct. A task of which it knows nothing, where nine runs in ten
learn nothing, say, is left to asynchronous halving at nearly its full speed.
"""

from __future__ import annotations

import numpy as np


class Trust:
    """An account of claims and gains.

    Args:
        first: Ratio of gains to claims before any evidence.
        weight: Claimed gain that ``first`` counts as, in ranges of the scores.
        memory: Epochs after which a claim counts 1/e.
    """

    def __init__(self, first: float, weight: float, memory: float):
        self.first, self.weight = first, weight
        self._keep = float(np.exp(-1 / memory))
        self.claimed = self.came = 0.0

    def book(self, claimed: float, came: float) -> None:
        """Book an epoch: the gain of the best score that was claimed, and that came."""
        self.claimed = self._keep * self.claimed + claimed
        self.came = self._keep * self.came + came

    @property
    def ratio(self) -> float:
        """Gains that come of one that is claimed, from 0 to 1."""
        came = self.came + self.first * self.weight
        return min(came / (self.claimed + self.weight), 1.0)

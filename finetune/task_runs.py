"""What is known of one task: candidates, what was observed of them, what is pending."""

from __future__ import annotations

import numpy as np

from finetune.space import Config, SearchSpace

DIRECTIONS = ("maximize", "minimize")


class TaskRuns:
    """The candidates of a task and their runs; higher scores are better.

    Legend: ``C`` candidates, ``T`` epochs of the budget.

    Args:
        space: The search space.
        num_epochs: Budget of a run.
        direction: "maximize" or "minimize": of what is told.

    Attributes:
        configs: ``C`` configurations.
        vectors: Encoded, ``[C, H]``.
        scores: What was told, negated where it is minimised, ``[C, T]``.
        lengths: Observed epochs, ``[C]``.
        total_seconds: Of the observed epochs of a run, ``[C]``.
        epoch_seconds: Seconds of each epoch, by candidate; of a failed one too.
        is_failed: ``[C]``.
        is_finished: Ended by itself, or by its budget, ``[C]``.
        pending: Epoch that is being trained, by candidate.
    """

    def __init__(self, space: SearchSpace, num_epochs: int, direction: str):
        self.space = space
        self.num_epochs = num_epochs
        self.direction = direction
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.configs: list[Config] = []
        self._numbers: dict[bytes, int] = {}
        self.vectors = np.zeros((0, self.space.num_columns), np.float32)
        self.scores = np.zeros((0, self.num_epochs))
        self.lengths = np.zeros(0, np.int64)
        self.total_seconds = np.zeros(0)
        self.is_failed = np.zeros(0, bool)
        self.is_finished = np.zeros(0, bool)
        self.epoch_seconds: dict[int, list[float]] = {}
        self.pending: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.configs)

    @property
    def sign(self) -> float:
        """Factor from what is told to a score, and back."""
        return 1.0 if self.direction == "maximize" else -1.0

    @property
    def is_open(self) -> np.ndarray:
        """Which candidates may be trained further, bool ``[C]``."""
        found = ~(self.is_failed | self.is_finished)
        found[list(self.pending)] = False
        return found

    @property
    def mean_seconds(self) -> np.ndarray:
        """Mean seconds of the observed epochs, NaN where there are none, ``[C]``."""
        with np.errstate(invalid="ignore"):
            return self.total_seconds / self.lengths

    def add(self, configs: list[Config]) -> list[int]:
        """Add candidates; one that is there already keeps its number.

        Returns:
            The number of each.
        """
        vectors, numbers = [], []
        for config in configs:
            vector = self.space.to_vector(config)
            key = vector.tobytes()
            if key not in self._numbers:
                self._numbers[key] = len(self.configs)
                self.configs.append(config)
                vectors.append(vector)
            numbers.append(self._numbers[key])
        num = len(vectors)
        if num:
            self.vectors = np.concatenate([self.vectors, np.stack(vectors)])
            self.scores = np.concatenate(
                [self.scores, np.zeros((num, self.num_epochs))]
            )
            self.lengths = np.r_[self.lengths, np.zeros(num, np.int64)]
            self.total_seconds = np.r_[self.total_seconds, np.zeros(num)]
            self.is_failed = np.r_[self.is_failed, np.zeros(num, bool)]
            self.is_finished = np.r_[self.is_finished, np.zeros(num, bool)]
        return numbers

    def observe(self, run: int, value: float, seconds: float, is_last: bool) -> None:
        """Add an epoch to a run."""
        length = int(self.lengths[run])
        self.scores[run, length] = self.sign * value
        self.lengths[run] = length + 1
        self.total_seconds[run] += seconds
        self.is_finished[run] = is_last or length + 1 >= self.num_epochs
        self.epoch_seconds.setdefault(run, []).append(seconds)

    def fail(self, run: int, seconds: float) -> None:
        """End a run that failed."""
        self.is_failed[run] = True
        if seconds > 0:
            self.epoch_seconds.setdefault(run, []).append(seconds)

    def values(self, run: int) -> list[float]:
        """What was told of a run."""
        return (self.sign * self.scores[run, : self.lengths[run]]).tolist()

    def best(self) -> tuple[int, float] | None:
        """The candidate with the best value so far, and that value."""
        if not self.lengths.any():
            return None
        seen = np.arange(self.num_epochs) < self.lengths[:, None]
        peak = np.where(seen, self.scores, -np.inf).max(1)
        run = len(peak) - 1 - int(np.argmax(peak[::-1]))
        return run, self.sign * float(peak[run])

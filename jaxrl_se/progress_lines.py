"""One line every few seconds about an evolution that runs."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, TextIO

from jaxrl_se.config import EvolutionConfig

_SECONDS_BETWEEN = 3.0


class ProgressLines:
    """Prints rows of metrics as they come, at most one line per three seconds.

    Args:
      config: The evolution's configuration.
      stream: Where to print; standard error by default.
    """

    def __init__(self, config: EvolutionConfig, stream: TextIO | None = None):
        self.config = config
        self.stream = sys.stderr if stream is None else stream
        self._printed_at = -math.inf
        self._validation: float | None = None
        self._laps: list[tuple[int, float, int]] = []

    def __call__(self, row: dict[str, Any]) -> None:
        """Prints the row if it is time for one, or if it has a validation."""
        is_validated = not math.isnan(row["validation_mean"])
        if is_validated:
            self._validation = row["validation_mean"]
        now = time.perf_counter()
        index = row.get("index", row["generation"] - 1)
        steps = row["real_steps"] + row.get("model_steps", 0)
        self._laps.append((index, row["seconds"], steps))
        if is_validated or now - self._printed_at >= _SECONDS_BETWEEN:
            self._printed_at = now
            print(self.line(row), file=self.stream, flush=True)

    def compiling(self) -> None:
        """Says why nothing is heard before the first generation."""
        agents = dict.fromkeys(type(agent).__name__ for agent in self.config.agents)
        print(
            f"compiling for {', '.join(agents)}: half a minute of CPU time or less",
            file=self.stream,
            flush=True,
        )

    def line(self, row: dict[str, Any]) -> str:
        """One line of text."""
        validation = "-" if self._validation is None else f"{self._validation:.4g}"
        stage = ""
        if self.config.stages:
            place = sum(start <= self._laps[-1][0] for start in self.config.stages)
            agent = self.config.agents[place]
            attempt = row.get("attempt", 0)
            again = f", attempt {attempt + 1}" if attempt else ""
            stage = f" ({type(agent).__name__}{again})"
        left = self.seconds_left()
        return (
            f"generation {row['generation']}{stage}: fitness best "
            f"{row['fitness_best']:.4g}, mean {row['fitness_mean']:.4g}; validation "
            f"{validation}; {row['real_steps']:,} real steps; {row['seconds']:.0f} s"
            + ("" if left is None else f", at most {left:.0f} s left")
        )

    def seconds_left(self) -> float | None:
        """What the rest takes if all of it is as slow as the last generations were.

        It ends with the generations or with the steps, whichever comes first. None
        where one generation alone is known, in whose seconds compilation is.
        """
        if len(self._laps) < 2:
            return None
        recent = self._laps[-10:]
        (_, earlier, before), (index, seconds, steps) = recent[0], recent[-1]
        passed = seconds - earlier
        left = passed / (len(recent) - 1) * (self.config.max_generations - 1 - index)
        limit = self.config.max_steps
        if limit is not None and steps > before:
            left = min(left, passed / (steps - before) * max(limit - steps, 0))
        return left

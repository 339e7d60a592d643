"""Which generation comes next when stages end early, read off the rows so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxrl_se.config import EvolutionConfig


def stalled(values: Sequence[float] | np.ndarray, patience: int) -> bool:
    """Whether a noisy series has stopped to rise.

    The mean of the last `patience` values is compared with that of as many before; the
    noise of a value is taken from the steps between neighbours, in which a trend hardly
    shows. A series that has never moved has not begun: chance may still find something.

    Args:
      values: One number per generation, oldest first; others than finite are left out.
      patience: Generations in each of the two means.
    """
    kept = np.array([value for value in values if np.isfinite(value)], np.float64)
    if len(kept) < 2 * patience or np.ptp(kept) == 0:
        return False
    recent = kept[-2 * patience :]
    rise = recent[patience:].mean() - recent[:patience].mean()
    noise = np.diff(recent).std() / np.sqrt(2)
    return bool(rise <= noise * np.sqrt(2 / patience))


def next_index(rows: Sequence[dict], config: EvolutionConfig) -> int | None:
    """The number by which the stages know the generation that comes next.

    Without `config.patience` generations are numbered one after the other. With it, a
    stage whose mean fitness has stalled is over, and the rest of its numbers are left
    out.

    Args:
      rows: The rows of all generations so far, each with its number as `index`,
        which is one less than its `generation` where no stage ended early.
      config: Stages, patience and the last number.

    Returns:
      A number from 0 on; None if the evolution is over.
    """
    last = _index(rows[-1]) if rows else -1
    index = last + 1
    if config.patience is not None and rows:
        start = stage_start(last, config)
        own = [row["fitness_mean"] for row in rows if _index(row) >= start]
        if stalled(own, config.patience):
            index = min(end for end in _ends(config) if end > last)
    return index if index < config.max_generations else None


def stage_start(index: int, config: EvolutionConfig) -> int:
    """The first number of the stage that a number belongs to."""
    return max([0, *(start for start in config.stages if start <= index)])


def _index(row: dict) -> int:
    return row.get("index", row["generation"] - 1)


def _ends(config: EvolutionConfig) -> tuple[int, ...]:
    return (*config.stages, config.max_generations)

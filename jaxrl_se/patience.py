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
    out, unless it begins again (`begins_again`).

    Args:
      rows: The rows of all generations so far, each with its number as `index`,
        which is one less than its `generation` where no stage ended early.
      config: Stages, patience and the last number.

    Returns:
      A number from 0 on; None if the evolution is over, or its steps are spent.
    """
    if _affordable(rows, config) < 1:
        return None
    last = _index(rows[-1]) if rows else -1
    index = last + 1
    if _is_stalled(rows, config) and not begins_again(rows, config):
        index = min(end for end in _ends(config) if end > last)
    return index if index < config.max_generations else None


def begins_again(rows: Sequence[dict], config: EvolutionConfig) -> bool:
    """Whether the first stage, stalled by now, begins again from fresh weights.

    It does `config.restarts` times at most, and while enough of its numbers and of the
    steps are left for another attempt to stall.

    Args:
      rows: See `next_index`; each with its `attempt`, from 0, where there are restarts.
      config: See `next_index`.
    """
    if not rows or rows[-1].get("attempt", 0) >= config.restarts:
        return False
    if config.patience is None or not _is_stalled(rows, config):
        return False
    left = _ends(config)[0] - _index(rows[-1]) - 1
    return bool(min(left, _affordable(rows, config)) >= 2 * config.patience)


def attempt_fitness(rows: Sequence[dict], config: EvolutionConfig) -> float | None:
    """How good the attempt was that is over with the last row; None if none is.

    Attempts are made of the first stage. What counts is the mean fitness of the last
    `config.patience` generations, the noise of one being too large to choose by.
    """
    end = _ends(config)[0]
    if config.patience is None or not rows or _index(rows[-1]) >= end:
        return None
    number = next_index(rows, config)
    if not begins_again(rows, config) and number is not None and number < end:
        return None
    recent = np.array(_own(rows, config)[-config.patience :], np.float64)
    recent = recent[np.isfinite(recent)]
    return float(recent.mean()) if len(recent) else -np.inf


def _own(rows: Sequence[dict], config: EvolutionConfig) -> list[float]:
    """Mean fitness in the attempt and stage of the last row."""
    start, attempt = stage_start(_index(rows[-1]), config), rows[-1].get("attempt", 0)
    return [
        row["fitness_mean"]
        for row in rows
        if _index(row) >= start and row.get("attempt", 0) == attempt
    ]


def _affordable(rows: Sequence[dict], config: EvolutionConfig) -> float:
    """Generations that the steps still pay for, each as dear as the dearest of late.

    It is asked before the last row's validation and after it, and must not change its
    mind: the last row counts as one of these generations.
    """
    steps = [row["real_steps"] + row["model_steps"] for row in rows[-21:-1]]
    if config.max_steps is None or not steps:
        return np.inf
    dearest = np.diff(steps).max(initial=1) if len(steps) > 1 else steps[0]
    return float((config.max_steps - steps[-1]) / dearest - 1)


def _is_stalled(rows: Sequence[dict], config: EvolutionConfig) -> bool:
    if config.patience is None or not rows:
        return False
    return stalled(_own(rows, config), config.patience)


def stage_start(index: int, config: EvolutionConfig) -> int:
    """The first number of the stage that a number belongs to."""
    return max([0, *(start for start in config.stages if start <= index)])


def _index(row: dict) -> int:
    return row.get("index", row["generation"] - 1)


def _ends(config: EvolutionConfig) -> tuple[int, ...]:
    return (*config.stages, config.max_generations)

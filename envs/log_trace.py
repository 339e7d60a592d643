"""Observations of a log as numbers, and when two of them are the same one."""

from __future__ import annotations

import dataclasses

import numpy as np

from envs.transitions import Transitions

_SAME = 0.1  # Of a typical step: closer than this, two observations are one.
_MOST_COLUMNS = 256  # Of a picture, as many pixels are looked at.
_MOST_DECIMALS = 7
_FEWEST = 20  # Rows that show whether others are missing between them.
_RARELY = 0.2
_MOST_MISSING = 10  # Rows between two.
_AGREE = 0.2  # Of moves and gaps in sign, rather than against each other.


@dataclasses.dataclass(frozen=True)
class Trace:
    """Observations as columns of float64, and how close two have to be to be one.

    Attributes:
        obs: [N, D].
        next_obs: [N, D].
        spread: Standard deviation of each column, 1 for constants, [D].
        precision: How far a column's two records of one number may differ, [D].
        same: The same for whole rows, in units of the spread.
    """

    obs: np.ndarray
    next_obs: np.ndarray
    spread: np.ndarray
    precision: np.ndarray
    same: float

    @classmethod
    def of(cls, rows: Transitions) -> Trace:
        """Of a log, which shows its own precision: last bits, rounded decimals."""
        obs, next_obs = (columns_of(x) for x in (rows.obs, rows.next_obs))
        dtype = np.asarray(rows.obs).dtype
        precision = np.zeros(obs.shape[1])
        if dtype.kind == "f":
            largest = np.maximum(np.abs(obs).max(0), np.abs(next_obs).max(0))
            precision = 4 * np.finfo(dtype).eps * largest
            for column in range(obs.shape[1]):
                decimals = [_decimals(x[:, column], dtype) for x in (obs, next_obs)]
                if decimals[0] != decimals[1]:  # one of them was rounded
                    precision[column] += 0.501 * 10.0 ** -min(decimals)
        obs, next_obs = obs - obs.mean(0), next_obs - obs.mean(0)
        spread = obs.std(0)
        spread = np.where(spread > 0, spread, 1.0)
        moves = size_of((next_obs - obs) / spread)
        moves = moves[moves > 0]
        same = _SAME * float(np.median(moves)) if moves.size else 0.0
        return cls(obs, next_obs, spread, precision, same)

    def first(self, num_rows: int) -> Trace:
        """The same of the first rows."""
        obs, next_obs = self.obs[:num_rows], self.next_obs[:num_rows]
        return dataclasses.replace(self, obs=obs, next_obs=next_obs)

    def equal(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether observations [K, D] are the same ones, [K]."""
        gaps = np.abs(first - second)
        is_close = size_of(gaps / self.spread) <= self.same
        return np.asarray(is_close | np.all(gaps <= self.precision, axis=1))

    def same_numbers(self, distance: int) -> np.ndarray:
        """As `follows`, number for number, within what rounding leaves."""
        gaps = np.abs(self.next_obs[:-distance] - self.obs[distance:])
        return np.asarray(np.all(gaps <= self.precision, axis=1))

    def follows(self, distance: int) -> np.ndarray:
        """Whether row i + distance continues row i, [N - distance]."""
        return self.equal(self.next_obs[:-distance], self.obs[distance:])

    def lacks_rows(self, goes_on: np.ndarray) -> bool:
        """Whether rows are in order, but others are missing between nearly all of them.

        The next row then starts about as far behind `next_obs` as steps are long, and
        goes on the same way. Noise goes back on the way that it made itself.

        Args:
            goes_on: Which rows end no episode, bool [N - 1].
        """
        gaps = ((self.obs[1:] - self.next_obs[:-1]) / self.spread)[goes_on]
        moves = ((self.next_obs - self.obs)[:-1] / self.spread)[goes_on]
        if len(gaps) < _FEWEST or self.follows(1)[goes_on].mean() > _RARELY:
            return False
        gap, move = np.median(size_of(gaps)), np.median(size_of(moves))
        if not 0.3 * move < gap < _MOST_MISSING * move:
            return False
        agree = np.mean(np.sign(gaps) * np.sign(moves), axis=0)
        by_chance = (1.5 + np.sqrt(2 * np.log(len(agree)))) / np.sqrt(len(gaps))
        return bool(agree.max() > max(_AGREE, by_chance))

    def backwards(self) -> np.ndarray:
        """Whether row i continues row i + 1."""
        return self.equal(self.next_obs[1:], self.obs[:-1])


def columns_of(values: np.ndarray) -> np.ndarray:
    """Observations [N, ...] as float64 [N, D], a part of them if they are pictures."""
    values = np.asarray(values)
    values = values.reshape(len(values), -1)
    if values.shape[1] > _MOST_COLUMNS:
        chosen = np.linspace(0, values.shape[1] - 1, _MOST_COLUMNS).astype(int)
        values = values[:, chosen]
    return values.astype(np.float64)


def size_of(rows: np.ndarray) -> np.ndarray:
    """Root mean squares of rows [N, D], [N]."""
    return np.sqrt(np.mean(np.square(rows), axis=1))


def _decimals(column: np.ndarray, dtype: np.dtype) -> int:
    """To how many decimals all numbers of a column are rounded."""
    exact = column.astype(dtype)
    for decimals in range(_MOST_DECIMALS):
        if (np.round(column, decimals).astype(dtype) == exact).all():
            return decimals
    return _MOST_DECIMALS

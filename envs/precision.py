"""Numbers as float32, unless that would lose them."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrl_runs.warn import warn_user

# Squares and sums of a thousand of them have to stay below 3e38.
_LARGEST = 1e15
_DWARFS = 1e7  # float32 has seven digits: beside such a number the others are zero.
_FAR = {"reward": 1e4}  # So far from the others that a number is worth a word; ...
_FAR_ELSEWHERE = 1e3  # ... rewards of goals are a thousand times a step's.
_REPEATED = 100.0  # Times the range of all others: a number that stands for nothing.
_FEW = 0.01  # Of the rows.
_COARSE = 0.01  # Of a column's spread.
_CONSTANT = 1e-12  # Of its size: what float64 itself leaves of a constant.


def as_float32(name: str, values: Any) -> np.ndarray:
    """Columns of numbers as float32.

    Args:
        name: Of the field, for messages.
        values: [N] or [N, D].

    Warns:
        UserWarning: A few numbers are far from all others, as placeholders for missing
            values are (-9999), or float32 is what time stamps were rounded to.

    Raises:
        ValueError: A number is too large to compute with, or dwarfs its column
            (placeholders such as 1e30 do), or a column's numbers are so large beside
            their differences that float32 cannot tell them apart (time stamps are);
            names field, row, column and value.
    """
    values = np.asarray(values)
    numbers = values.astype(np.float64)
    columns = numbers.reshape(len(numbers), -1)
    for column in range(columns.shape[1]):
        where = f" of column {column}" if values.ndim > 1 else ""
        _check_size(name, where, columns[:, column])
        _check_precision(name, where, columns[:, column], values.dtype)
    return numbers.astype(np.float32)


def _check_size(name: str, where: str, numbers: np.ndarray) -> None:
    distance = np.abs(numbers - np.median(numbers))
    usual = np.quantile(distance, 0.95)
    largest = np.abs(numbers)
    wrong = (largest > _LARGEST) | ((distance > _DWARFS * usual) & (usual > 0))
    if wrong.any():
        row = int(np.argmax(np.where(wrong, largest, -1)))
        raise ValueError(
            f"{name} must be numbers of a usual size, got {numbers[row]:g} in row "
            f"{row}{where} (the column's median is {np.median(numbers):g}); leave such "
            "rows out if it stands for a missing value, else rescale the column"
        )
    if _is_told_as_nines(name, where, numbers):
        return
    _check_repeated(name, where, numbers)
    if usual == 0:  # nearly all are one number, such as 1 per step
        usual = float(np.abs(np.median(numbers)))
    far = distance > _FAR.get(name, _FAR_ELSEWHERE) * usual
    if usual > 0 and far.any() and far.mean() <= _FEW:
        row = int(np.argmax(distance))
        warn_user(
            f"{name}: {far.sum()} of {len(numbers)} rows{where} are far from all the "
            f"others, such as {numbers[row]:g} in row {row} (the column's median is "
            f"{np.median(numbers):g}); if that stands for a missing value, leave such "
            "rows out",
        )


def _is_told_as_nines(name: str, where: str, numbers: np.ndarray) -> bool:
    """Warns of -999, 9999 and the like, where the others are nowhere near them."""
    for extreme in (numbers.min(), numbers.max()):
        others = np.abs(numbers[numbers != extreme])
        digits = f"{abs(extreme):g}"
        if len(digits) < 3 or set(digits) != {"9"} or not len(others):
            continue
        if np.quantile(others, 0.99) < 0.1 * abs(extreme):
            rows = np.flatnonzero(numbers == extreme)
            warn_user(
                f"{name}: {len(rows)} of {len(numbers)} rows{where} have {extreme:g}, "
                f"first row {rows[0]}, all others are at most {others.max():g} in "
                "size; if that stands for a missing value, leave such rows out",
            )
            return True
    return False


def _check_repeated(name: str, where: str, numbers: np.ndarray) -> None:
    """Warns of a number that stands there often and is far from all others."""
    for extreme in (numbers.min(), numbers.max()):
        others = numbers[numbers != extreme]
        share = 1 - len(others) / len(numbers)
        if not _FEW < share < 1 or len(np.unique(others)) == 2:
            continue
        spread = np.ptp(others) or np.abs(others).max()
        distance = min(abs(extreme - others.min()), abs(extreme - others.max()))
        if spread > 0 and distance > _FAR.get(name, _REPEATED) * spread:
            warn_user(
                f"{name}: {share:.0%} of the rows{where} have {extreme:g}, all others "
                f"{others.min():g} to {others.max():g}; if that stands for a missing "
                "value, leave such rows out",
            )


def _check_precision(
    name: str, where: str, numbers: np.ndarray, dtype: np.dtype
) -> None:
    if dtype == np.float32 and np.abs(numbers).max() >= 2**24:
        _check_rounded(name, where, numbers)
        return
    lost = np.abs(numbers.astype(np.float32) - numbers).max()
    spread = numbers.std()
    is_constant = spread <= _CONSTANT * np.abs(numbers).max()
    if lost > _COARSE * spread and not is_constant:
        raise ValueError(
            f"{name}: the numbers{where} differ by about {spread:g} at a size of "
            f"{np.abs(numbers).max():.10g}, where float32 is off by up to {lost:g}; "
            "subtract a constant from the column in float64 (its first value, say), in "
            "obs and next_obs and wherever a policy acts, or leave it out"
        )


def _check_rounded(name: str, where: str, numbers: np.ndarray) -> None:
    """Numbers that came in float32: did they have differences that are lost?"""
    size = np.float32(np.abs(numbers).max())
    gap = float(np.spacing(size))
    if numbers.std() < gap / _COARSE:
        warn_user(
            f"{name}: the numbers{where} are about {size:.10g} in float32, whose next "
            f"number is {gap:g} away: differences below that are lost. If they are "
            "time stamps, subtract the first one in float64, or leave them out",
        )

"""Numbers as float32, unless that would lose them."""

from __future__ import annotations

from typing import Any

import numpy as np

# Squares and sums of a thousand of them have to stay below 3e38.
_LARGEST = 1e15
_DWARFS = 1e7  # float32 has seven digits: beside such a number the others are zero.
_COARSE = 0.01  # Of a column's spread.
_CONSTANT = 1e-12  # Of its size: what float64 itself leaves of a constant.


def as_float32(name: str, values: Any) -> np.ndarray:
    """Columns of numbers as float32.

    Args:
        name: Of the field, for messages.
        values: [N] or [N, D].

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
        _check_precision(name, where, columns[:, column])
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


def _check_precision(name: str, where: str, numbers: np.ndarray) -> None:
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

"""Cells of csv files as people write them: separators, blanks, words for "missing"."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxrl_runs.text_tables import has_decimal_commas, rows_of

MISSING = frozenset({"", "nan", "na", "n/a", "null", "<na>", "-nan"})
# in a column of numbers "None" is missing too; among words it can be a choice
_MISSING_NUMBER = MISSING | {"none", "-", "?"}


def is_missing(cell: str) -> bool:
    """Tell whether a cell says that there is nothing."""
    return cell.strip().lower() in MISSING


def to_number(cell: str) -> float | None:
    """Parse a cell: NaN where it is missing, None where it is no number."""
    cell = cell.strip()
    if cell.lower() in _MISSING_NUMBER:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        return None


class Rows:
    """A csv file with a header, and the run's name in the first column.

    Commas, semicolons, tabs or bars separate cells; with separators other
    than commas, a comma can be a decimal point. Blanks around cells, blank lines, a
    byte-order mark and lines of comment ("#") before the header are dropped.

    Args:
        path: The file.

    Attributes:
        path: The file.
        header: Names of the columns.
        cells: By run, in the order of the file, what its row holds.
        lines: By run, the line of the file, counted from 1.

    Raises:
        ValueError: If there is no such file, no row, a row of another width, or two
            rows of one name.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            raise ValueError(f"{path.name}: no such file in {path.parent.name}")
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path.name} must be UTF-8 text, got {error}") from None
        separator, lines = rows_of(text)
        if len(lines) < 2:
            raise ValueError(f"{path.name}: no rows")
        self.header = lines[0][1]
        self._decimal_comma = has_decimal_commas(separator, lines)
        self.cells: dict[str, list[str]] = {}
        self.lines: dict[str, int] = {}
        for number, row in lines[1:]:
            if len(row) != len(self.header):
                raise ValueError(
                    f"{path.name}, row {number} must hold {len(self.header)} cells "
                    f"(separated by {separator!r}, as in the first line), got "
                    f"{len(row)}"
                )
            if row[0] in self.cells:
                raise ValueError(f"{path.name}: run {row[0]!r} occurs more than once")
            self.cells[row[0]] = row
            self.lines[row[0]] = number
        twice = {c for c in self.header if c and self.header.count(c) > 1}
        if twice:
            raise ValueError(f"{path.name}: columns named twice: {sorted(twice)}")

    def text(self, name: str, column: int) -> str:
        """A cell as it stands."""
        return self.cells[name][column]

    def parse(self, cell: str) -> float | None:
        """Parse a cell with the file's decimal point."""
        return to_number(cell.replace(",", ".") if self._decimal_comma else cell)

    def number(self, name: str, column: int) -> float:
        """Parse a cell of a run.

        Raises:
            ValueError: If it is no number; the message names file, row and column.
        """
        cell = self.cells[name][column]
        value = self.parse(cell)
        if value is None:
            raise ValueError(
                f"{self.path.name}, row {self.lines[name]}, column "
                f"{self.header[column]!r}: {cell!r} is not a number"
            )
        return value

    def numbers(self, names: list[str], columns: list[int]) -> np.ndarray:
        """Parse the cells of some runs and columns, ``[names, columns]``."""
        found = [[self.number(name, c) for c in columns] for name in names]
        return np.array(found, float).reshape(len(names), len(columns))

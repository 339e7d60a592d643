"""Where rows of metrics go: callables that take a dictionary of numbers by name.

They fit `train(on_progress=...)` and `evolve(on_generation=...)`. One for Weights &
Biases is `run.log`; the guide on agents shows it.
"""

from __future__ import annotations

import csv
import numbers
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrl_runs.values import FLAG, PATH

Sink = Callable[[dict[str, Any]], Any]


def each(*sinks: Sink) -> Sink:
    """One sink that passes every row to several."""

    def to_each(row: dict[str, Any]) -> None:
        for sink in sinks:
            sink(row)

    return to_each


class CSVSink:
    """Writes each row to a CSV file as soon as it comes.

    A column that comes later than others stands empty in the rows before.

    Args:
      path: The file; its folder is made if it is missing.
      append: Whether to go on with a file that has rows already.

    Raises:
      FileExistsError: The file has rows, and `append` is False.
      OSError: The file cannot be written.
      ValueError: The file to go on with is no table.
    """

    def __init__(self, path: str | Path, append: bool = False):
        PATH.check("path", path)
        FLAG.check("append", append)
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("a").close()
        except OSError as error:
            raise type(error)(
                f"path must be a file that can be written, got {str(path)!r} ({error})"
            ) from error
        self._names: list[str] = []
        self._rows: list[dict[str, Any]] = []
        if self.path.stat().st_size:
            self._read(append)

    def _read(self, append: bool) -> None:
        """What the file holds, if it is to be gone on with."""
        if not append:
            raise FileExistsError(
                f"path must be a new file, got {str(self.path)!r}, which has rows; "
                "append=True goes on with it"
            )
        with self.path.open(newline="") as file:
            reader: Any = csv.DictReader(file)
            self._rows = list(reader)
            self._names = list(reader.fieldnames or ())
        if any(None in row or None in row.values() for row in self._rows):
            raise ValueError(
                f"path must be a table to go on with, got {str(self.path)!r}, whose "
                "rows differ in length"
            )

    def __call__(self, row: dict[str, Any]) -> None:
        """Writes a row."""
        new = [name for name in row if name not in self._names]
        self._names += new
        self._rows.append(dict(row))
        rows = self._rows if new else self._rows[-1:]
        with self.path.open("w" if new else "a", newline="") as file:
            writer = csv.DictWriter(file, self._names, restval="")
            if new:
                writer.writeheader()
            writer.writerows(rows)


class TensorBoardSink:
    """Writes each number of a row as a scalar for TensorBoard.

    Its horizontal axis is the row's `steps`, or its `generation`.

    Args:
      folder: Where TensorBoard looks.

    Raises:
      ImportError: tensorboardX is missing; `pip install tensorboardX`.
    """

    def __init__(self, folder: str | Path):
        PATH.check("folder", folder)
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoardSink needs tensorboardX: pip install tensorboardX"
            ) from error
        self._writer = SummaryWriter(str(folder))

    def __call__(self, row: dict[str, Any]) -> None:
        """Writes a row."""
        at = int(row["steps"] if "steps" in row else row["generation"])
        for name, value in row.items():
            if isinstance(value, numbers.Real) and not isinstance(value, bool):
                self._writer.add_scalar(name, float(value), at)
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()

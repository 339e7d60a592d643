"""The cells of a table, measured one by one and kept, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from jaxrl_runs.run_folder import RunFolder


class Cells:
    """What is measured, kept in `cells.json`; finished cells of a resumed run stay.

    Args:
        folder: The run's folder.
        total: How many cells there will be, if that is known, for the progress bar.

    Attributes:
        folder: The run's folder.
        done: What was measured, by cell.
    """

    def __init__(self, folder: RunFolder, total: int | None = None):
        self.folder = folder
        self.done: dict[str, Any] = folder.read_json("cells.json") or {}
        self._bar = tqdm(total=total, unit="cell", mininterval=2, disable=None)

    def progress(self, row: dict[str, Any]) -> None:
        """Shows a generation of an evolution."""
        self._bar.set_postfix_str(
            f"generation {row['generation']}, mean score {row['fitness_mean']:.0f}"
        )

    def fill(self, name: str, measure: Callable[[], Any]) -> Any:
        """The cell's content, measured if it is not there yet."""
        self._bar.set_description(name)
        if name not in self.done:
            self.done[name] = measure()
            self.folder.write_json("cells.json", self.done)
        self._bar.set_postfix_str("")
        self._bar.update()
        return self.done[name]

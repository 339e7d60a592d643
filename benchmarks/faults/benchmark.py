"""Faults of all kinds, and what comes of them, as one table.

    python -m benchmarks.faults --quick
    python -m benchmarks.faults --kills 100

With --only, a part of it: kills, interrupts, disks, files, calls, modes, drift.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults import files, runs, steady
from benchmarks.faults.programs import PROGRAMS
from benchmarks.faults.runs import Row


def parts(
    folder: Path, number: int, quick: bool
) -> dict[str, Callable[[], Iterator[Row]]]:
    """What is tried, by name."""

    def each(
        name: str, rows: Callable[..., Iterator[Row]], *args: int
    ) -> Iterator[Row]:
        for program in PROGRAMS:
            own = folder / f"{name}_{program}"
            own.mkdir()
            yield from rows(program, own, *args)

    def disks() -> Iterator[Row]:
        yield from each("disks", runs.disks)
        yield from runs.locked(folder)

    return {
        "kills": lambda: each("kills", runs.kills, number),
        "interrupts": lambda: each("interrupts", runs.interrupts),
        "disks": disks,
        "files": lambda: files.rows(folder, 5 if quick else 100),
        "calls": lambda: steady.repeated(20 if quick else 200),
        "modes": lambda: steady.modes(folder),
        "drift": steady.drifts,
    }


def main(argv: list[str] | None = None) -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of each program")
    parser.add_argument("--quick", action="store_true", help="two kills, few of others")
    parser.add_argument("--only", nargs="+", help="parts")
    given = parser.parse_args(argv)
    failed = 0
    print("| fault | tried | what came of it | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        number = 2 if given.quick else given.kills
        found = parts(Path(name), number, given.quick)
        for part in given.only or found:
            started = time.monotonic()
            for row in found[part]():
                failed += not row.passed
                mark = "ok" if row.passed else "FAILED"
                print(
                    f"| {row.fault} | {row.tried} | {row.found} | {mark} |", flush=True
                )
            took = time.monotonic() - started
            print(f"{part}: {took:.0f} s", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"{failed} rows failed")


if __name__ == "__main__":
    main()

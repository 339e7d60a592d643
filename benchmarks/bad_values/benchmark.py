"""Feeds every public entry point with wrong values and counts what comes of them.

python -m benchmarks.bad_values            # the table
python -m benchmarks.bad_values --show 50  # and what is accepted or cryptic
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bad_values.agents import agent_cases
from benchmarks.bad_values.calls import call_cases
from benchmarks.bad_values.settings import config_cases
from benchmarks.bad_values.verdicts import VERDICTS, Case, verdict


def all_cases(folder: Path) -> list[Case]:
    """Every wrong call.

    Args:
        folder: An empty folder, for what writes.
    """
    return [*agent_cases(), *config_cases(), *call_cases(folder)]


def table(results: Sequence[tuple[Case, str]]) -> str:
    """Verdicts by entry point, in Markdown."""
    counts: dict[str, Counter] = {}
    for case, found in results:
        counts.setdefault(case.entry, Counter())[found] += 1
    counts["**all**"] = sum(counts.values(), Counter())
    lines = ["| given to | " + " | ".join(VERDICTS) + " |", "|---|---|---|---|"]
    for entry, count in counts.items():
        numbers = " | ".join(f"{count[name]:,}" for name in VERDICTS)
        lines.append(f"| {entry if '*' in entry else f'`{entry}`'} | {numbers} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; the exit status is 1 if anything is not clear."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", type=int, default=20, help="calls to list at most")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = [(case, *verdict(case)) for case in all_cases(Path(folder))]
    bad = [row for row in found if row[1] != "clear"]
    for case, name, message in bad[: options.show]:
        print(f"{name}: {case} -> {message}")
    print(table([(case, name) for case, name, _ in found]))
    return int(bool(bad))

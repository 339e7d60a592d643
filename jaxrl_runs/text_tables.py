"""Tables of text as people and programs write them: separators, comments, blanks."""

from __future__ import annotations

import csv
import re

SEPARATORS = ",;\t|"
_COMMENT = "#"
# "1,234" may be a thousand and more.
_WITH_COMMA = re.compile(r"[+-]?(0,\d+|\d*,(\d\d?|\d{4,}))(e[+-]?\d+)?", re.IGNORECASE)


def rows_of(text: str) -> tuple[str, list[tuple[int, list[str]]]]:
    """The rows of a table that are not blank, the header first.

    Lines before the header that begin with "#" are comments, but for the last of them
    where it has as many cells as the next line and that one begins with a number: it
    is the header then.

    Args:
      text: The whole table.

    Returns:
      The separator, and for each row the number of its line, from 1, and its cells
      without blanks around them.
    """
    lines = text.splitlines(keepends=True)
    start = 0
    while start < len(lines) and _is_skipped(lines[start]):
        start += 1
    named = [i for i in range(start) if lines[i].strip()]
    if named and start < len(lines):
        head = lines[named[-1]].lstrip(_COMMENT + " ")
        if _is_header(head, lines[start]):
            start = named[-1]
            lines[start] = head
    separator = separator_of(lines[start]) if start < len(lines) else ","
    reader = csv.reader(lines[start:], delimiter=separator, skipinitialspace=True)
    rows = [(start + reader.line_num, [cell.strip() for cell in row]) for row in reader]
    return separator, [(number, row) for number, row in rows if any(row)]


def has_decimal_commas(separator: str, rows: list[tuple[int, list[str]]]) -> bool:
    """Whether a comma in a cell is a decimal point.

    It is with semicolons; with tabs or bars, where some cell can only be one and no
    number of the table has a point.

    Args:
      separator: Of the cells.
      rows: As `rows_of` gives them.
    """
    if separator in ";,":
        return separator == ";"
    cells = [cell for _, row in rows[1:] for cell in row]
    return any(map(_WITH_COMMA.fullmatch, cells)) and not any(
        "." in cell and _is_number(cell) for cell in cells
    )


def separator_of(header: str) -> str:
    """What a header is separated by: whatever of `SEPARATORS` it has most of."""
    return max(SEPARATORS, key=header.count)


def _is_skipped(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith(_COMMENT)


def _is_header(comment: str, first: str) -> bool:
    separator = separator_of(first)
    cells = [cell.strip() for cell in first.split(separator)]
    return len(cells) == len(comment.split(separator)) and _is_number(cells[0])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

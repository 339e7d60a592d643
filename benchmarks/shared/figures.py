"""How all pictures look: one palette, quiet axes."""

from __future__ import annotations

from typing import Any

# What is learned is blue and what is real is orange, in every picture.
LEARNED, REAL, GREY = "#0b6e99", "#c2571a", "#777777"
COLORS = (LEARNED, REAL, "#5b8c3a", "#8a4f9e", "#b38b00", GREY, "#000000")


def quiet(axes: Any) -> None:
    """Takes away the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)

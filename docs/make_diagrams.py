"""Draws the diagrams of the concept pages as SVG: `python docs/make_diagrams.py`."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path

FOLDER = Path(__file__).parent / "pictures"
LEARNED, REAL, PLAIN = "#0b6e99", "#c2571a", "#555555"
COLUMN, ROW, WIDTH, HEIGHT, MARGIN = 235, 120, 165, 66, 12


@dataclasses.dataclass(frozen=True)
class Box:
    """A box at a place of the grid.

    Attributes:
        column: From the left, also between two columns.
        row: From the top.
        text: One or two lines.
        color: Of its frame.
    """

    column: float
    row: float
    text: str
    color: str = PLAIN

    @property
    def center(self) -> tuple[float, float]:
        """Its centre in the picture."""
        x = MARGIN + WIDTH / 2 + self.column * COLUMN
        return x, MARGIN + HEIGHT / 2 + self.row * ROW


@dataclasses.dataclass(frozen=True)
class Diagram:
    """Boxes by name, and arrows `(from, to, label)` between them."""

    boxes: dict[str, Box]
    arrows: tuple[tuple[str, str, str], ...]

    def svg(self) -> str:
        """The picture as text."""
        centers = [box.center for box in self.boxes.values()]
        width = max(x for x, _ in centers) + WIDTH / 2 + MARGIN
        height = max(y for _, y in centers) + HEIGHT / 2 + MARGIN
        parts = [_arrow(self.boxes[a], self.boxes[b], t) for a, b, t in self.arrows]
        parts += [_box(box) for box in self.boxes.values()]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" '
            f'height="{height:g}" viewBox="0 0 {width:g} {height:g}" '
            'font-family="Helvetica, Arial, sans-serif" font-size="15">\n'
            '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" '
            'orient="auto"><path d="M0,0 L9,4 L0,8 z" fill="#555"/></marker></defs>\n'
            '<rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(parts)
            + "\n</svg>\n"
        )


def _text(x: float, y: float, text: str, color: str, size: int = 15) -> str:
    lines = text.split("\n")
    top = y - (len(lines) - 1) * (size + 3) / 2 + size / 3
    spans = "".join(
        f'<tspan x="{x:g}" y="{top + i * (size + 3):g}">{html.escape(line)}</tspan>'
        for i, line in enumerate(lines)
    )
    return (
        f'<text text-anchor="middle" fill="{color}" font-size="{size}">{spans}</text>'
    )


def _box(box: Box) -> str:
    x, y = box.center
    return (
        f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="8" fill="{box.color}" fill-opacity="0.09" '
        f'stroke="{box.color}" stroke-width="1.8"/>' + _text(x, y, box.text, "#222222")
    )


def _arrow(start: Box, end: Box, label: str) -> str:
    (x1, y1), (x2, y2) = _edge(start, end), _edge(end, start)
    line = (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#555555" '
        'stroke-width="1.6" marker-end="url(#tip)"/>'
    )
    if not label:
        return line
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    half = max(len(part) for part in label.split("\n")) * 3.6 + 3
    tall = 9 * len(label.split("\n"))
    return (
        f'{line}<rect x="{x - half:g}" y="{y - tall:g}" width="{2 * half:g}" '
        f'height="{2 * tall}" fill="white"/>' + _text(x, y, label, "#555555", 13)
    )


def _edge(start: Box, end: Box) -> tuple[float, float]:
    """Where the way from one centre to another leaves the first box."""
    (x1, y1), (x2, y2) = start.center, end.center
    dx, dy = x2 - x1, y2 - y1
    scale = min(
        (WIDTH / 2 + 2) / abs(dx) if dx else float("inf"),
        (HEIGHT / 2 + 2) / abs(dy) if dy else float("inf"),
    )
    return x1 + dx * scale, y1 + dy * scale


DIAGRAMS = {
    "pair": Diagram(
        {
            "real": Box(0, 0, "real task", REAL),
            "synthetic": Box(0, 1, "synthetic\nenvironment", LEARNED),
            "reward": Box(0, 2, "real task with a\nreward network", LEARNED),
            "world": Box(0, 3, "world model", LEARNED),
            "pair": Box(1.15, 1.5, "env, params\n(gymnax)"),
            "ours": Box(2.3, 0.5, "agents of\nthis toolkit"),
            "other": Box(2.3, 1.5, "rejax,\npurejaxrl"),
            "sb3": Box(2.3, 2.5, "Gymnasium,\nStable-Baselines3"),
        },
        (
            ("real", "pair", ""),
            ("synthetic", "pair", ""),
            ("reward", "pair", ""),
            ("world", "pair", ""),
            ("pair", "ours", ""),
            ("pair", "other", ""),
            ("pair", "sb3", ""),
        ),
    ),
    "synthetic_environments": Diagram(
        {
            "strategy": Box(0, 0, "evolution strategy"),
            "env": Box(1.15, 0, "a population of\nsynthetic\nenvironments", LEARNED),
            "agent": Box(2.3, 0, "fresh agents"),
            "test": Box(2.3, 1.15, "real task", REAL),
            "score": Box(0, 1.15, "score of each\nenvironment"),
        },
        (
            ("strategy", "env", "draw"),
            ("env", "agent", "train"),
            ("agent", "test", "test"),
            ("test", "score", "mean return"),
            ("score", "strategy", "update"),
        ),
    ),
    "reward_networks": Diagram(
        {
            "strategy": Box(0, 0, "evolution strategy"),
            "net": Box(1.15, 0, "a population of\nreward networks", LEARNED),
            "task": Box(1.15, 1.1, "real task:\nstates, endings", REAL),
            "agent": Box(2.3, 0.55, "fresh agents"),
            "score": Box(0, 1.1, "steps until the\ntask is solved"),
        },
        (
            ("strategy", "net", "draw"),
            ("net", "agent", "reward"),
            ("task", "agent", "states"),
            ("task", "score", "tests"),
            ("score", "strategy", "update"),
        ),
    ),
    "world_models": Diagram(
        {
            "rows": Box(0, 0.55, "1,000 transitions\nof the task", REAL),
            "forms": Box(1.15, 0, "five models\nfitted to them", LEARNED),
            "former": Box(
                1.15, 1.1, "transformer, trained\nonce on made-up\ntasks", LEARNED
            ),
            "env": Box(2.3, 0.55, "environment", LEARNED),
            "agent": Box(2.3, 1.65, "agent or planner"),
            "real": Box(0, 1.65, "real task", REAL),
        },
        (
            ("rows", "forms", "fit"),
            ("rows", "former", "context"),
            ("forms", "env", "predict"),
            ("former", "env", "weigh, correct"),
            ("env", "agent", "train"),
            ("agent", "real", "test"),
        ),
    ),
    "transformer": Diagram(
        {
            "rows": Box(0, 0, "rows of the\ncontext", REAL),
            "models": Box(1.15, 0, "five models", LEARNED),
            "tokens": Box(2.3, 0, "a token for\neach row", PLAIN),
            "among": Box(3.45, 0, "attention\namong rows", LEARNED),
            "query": Box(0, 1.15, "state and action", REAL),
            "each": Box(1.15, 1.15, "predictions and\ndeviations of each"),
            "token": Box(2.3, 1.15, "a token for\nthe query", PLAIN),
            "read": Box(3.45, 1.15, "attention to what\nmodels left nearby", LEARNED),
            "answer": Box(1.15, 2.3, "next state,\nreward, end", REAL),
            "gate": Box(2.3, 2.3, "believed as far as\nheld-out rows say"),
            "shift": Box(3.45, 2.3, "weights of models,\nand a shift", LEARNED),
        },
        (
            ("rows", "models", "fit"),
            ("models", "tokens", "errors\nleft out"),
            ("tokens", "among", ""),
            ("query", "each", "ask"),
            ("models", "each", ""),
            ("each", "token", ""),
            ("token", "read", ""),
            ("among", "read", "keys"),
            ("read", "shift", ""),
            ("shift", "gate", ""),
            ("gate", "answer", "correct"),
            ("each", "answer", "blend"),
        ),
    ),
    "finetuning": Diagram(
        {
            "past": Box(0, 0, "learning curves of\npast finetuning", REAL),
            "surrogates": Box(1.15, 0, "surrogates of\naccuracy and cost", LEARNED),
            "choice": Box(2.3, 0, "most improvement\nper second"),
            "train": Box(2.3, 1.15, "your training code:\none more epoch", REAL),
            "history": Box(1.15, 1.15, "curves so far"),
        },
        (
            ("past", "surrogates", "learn"),
            ("surrogates", "choice", "predict"),
            ("choice", "train", "suggest"),
            ("train", "history", "observe"),
            ("history", "surrogates", "condition"),
        ),
    ),
    "hard_views": Diagram(
        {
            "picture": Box(0, 0, "picture", REAL),
            "views": Box(1.15, 0, "four views:\ncrops, colours"),
            "encoder": Box(2.3, 0, "encoder", LEARNED),
            "losses": Box(2.3, 1.15, "loss of each\nof six pairs"),
            "pair": Box(1.15, 1.15, "hardest pair"),
        },
        (
            ("picture", "views", "augment"),
            ("views", "encoder", "look"),
            ("encoder", "losses", "compare"),
            ("losses", "pair", "highest"),
            ("pair", "encoder", "train"),
        ),
    ),
}


def main() -> None:
    """Writes every diagram."""
    FOLDER.mkdir(exist_ok=True)
    for name, diagram in DIAGRAMS.items():
        (FOLDER / f"{name}.svg").write_text(diagram.svg())


if __name__ == "__main__":
    main()

"""Which members there are for a modality, their search space, and what to try first."""

from __future__ import annotations

import dataclasses
from typing import Any

from finetune.space import Categorical, Condition, Config, Float, Ordinal, SearchSpace

NUM_EPOCHS = 9
NETWORKS = ("network", "tokens", "convolution")
_TABLE = (
    "bayes",
    "linear",
    "vectors",
    "neighbours",
    "forest",
    "boosting",
    "network",
)
MEMBERS: dict[str, tuple[str, ...]] = {
    "table": _TABLE,
    "text": (
        "counts",
        "words",
        "vectors",
        "neighbours",
        "forest",
        "network",
        "tokens",
    ),
    "series": (*_TABLE, "convolution"),
    "image": (*_TABLE, "convolution"),
}
# one of each, cheapest first: what usually works
_FIRST: tuple[Config, ...] = (
    {"member": "counts", "smoothing": 0.1},
    {"member": "words", "C": 10.0},
    {"member": "bayes", "smoothing": 1e-2},
    {"member": "linear", "C": 0.1},
    {"member": "vectors", "C": 10.0, "gamma": 1.0},
    {"member": "forest", "min_leaf": 1, "share_of_columns": 0.3},
    {"member": "neighbours", "num_near": 5},
    {"member": "boosting", "min_leaf": 10, "step": 0.15, "leaves": 16, "l2": 1e-3},
    {
        "member": "network",
        "rate": 2e-3,
        "width": 256.0,
        "decay": 1e-2,
        "dropout": 0.2,
        "label_smoothing": 0.05,
    },
    {
        "member": "tokens",
        "rate": 3e-3,
        "channels": 32.0,
        "decay": 1e-2,
        "dropout": 0.2,
        "label_smoothing": 0.05,
    },
    {
        "member": "convolution",
        "rate": 3e-3,
        "channels": 16.0,
        "decay": 1e-3,
        "dropout": 0.1,
        "label_smoothing": 0.05,
    },
)


def make_portfolio(kind: str) -> tuple[Config, ...]:
    """What to try first on a modality, in this order."""
    return tuple(c for c in _FIRST if c["member"] in MEMBERS[kind])


_WHOLE: dict[str, Any] = {"log": True, "integer": True}
# hyperparameters, and the members that have them
_OF: tuple[tuple[Float | Ordinal, tuple[str, ...]], ...] = (
    (Float("smoothing", 1e-9, 1.0, log=True), ("bayes", "counts")),
    (Float("C", 1e-3, 1e3, log=True), ("linear", "vectors", "words")),
    (Float("gamma", 1e-2, 1e1, log=True), ("vectors",)),
    (Float("num_near", 1, 30, **_WHOLE), ("neighbours",)),
    (Float("min_leaf", 1, 20, **_WHOLE), ("forest", "boosting")),
    (Float("share_of_columns", 0.1, 1.0), ("forest",)),
    (Float("rate", 1e-4, 1e-1, log=True), NETWORKS),
    (Float("step", 0.03, 0.5, log=True), ("boosting",)),
    (Float("leaves", 4, 64, **_WHOLE), ("boosting",)),
    (Float("l2", 1e-6, 10.0, log=True), ("boosting",)),
    (Ordinal("width", (64.0, 256.0), log=True), ("network",)),
    (Ordinal("channels", (16.0, 32.0), log=True), ("tokens", "convolution")),
    (Float("decay", 1e-5, 1e-1, log=True), NETWORKS),
    (Float("dropout", 0.0, 0.5), NETWORKS),
    (Float("label_smoothing", 0.0, 0.2), NETWORKS),
)


def make_space(kind: str) -> SearchSpace:
    """The search space of a modality.

    Args:
        kind: "table", "text", "series" or "image".
    """
    names = MEMBERS[kind]
    parts: list = [Categorical("member", names)]
    for part, members in _OF:
        kept = tuple(m for m in members if m in names)
        if kept:
            condition = Condition("member", kept)
            parts.append(dataclasses.replace(part, condition=condition))
    return SearchSpace(tuple(parts))

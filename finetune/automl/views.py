"""From rows of a modality to what members are fitted to, with rows held out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from finetune.automl.data import Encoder
from finetune.automl.inputs import Examples
from finetune.automl.labels import Labels, encode_labels
from finetune.automl.signals import ImageView, SeriesView
from finetune.automl.text import TextView

_SMALL = 2000  # rows up to which five folds are held out in turn, not one fifth


@dataclasses.dataclass(frozen=True)
class Folds:
    """What members are fitted to.

    Attributes:
        x: Columns, float32 ``[n, d]``.
        y: Classes, int ``[n]``; or which labels a row has, bool ``[n, labels]``.
        train: Training rows of each fold.
        valid: Held-out rows of each fold.
        test: Columns of the rows to predict, ``[m, d]``.
        num_classes: Number of classes, or of labels.
        kind: The modality.
        inputs: What members of a modality read instead of columns, by member: of the
            ``n`` rows, and of the ``m`` to predict.
    """

    x: np.ndarray
    y: np.ndarray
    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: np.ndarray
    num_classes: int
    kind: str = "table"
    inputs: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)

    def of(self, member: str) -> tuple[Any, Any]:
        """What a member reads: of the ``n`` rows, and of the ``m`` to predict."""
        return self.inputs.get(member, (self.x, self.test))


def prepare(train: Examples, test: Examples | None, seed: int) -> tuple[Labels, Folds]:
    """Encode, and hold rows out: each class in every fold, as far as it goes.

    Raises:
        ValueError: If labels are missing or too few, or rows cannot be read.
    """
    if train.labels is None:
        raise ValueError("y must be one label per row, or several, got none")
    labels = encode_labels(train.labels, train.label_names)
    x, rows, inputs = _view(train, test, seed)
    place = _places(labels.y, np.random.default_rng(seed))
    num = 5 if len(place) <= _SMALL else 1
    folds = Folds(
        x,
        labels.y,
        [np.flatnonzero(place % 5 != k) for k in range(num)],
        [np.flatnonzero(place % 5 == k) for k in range(num)],
        rows,
        len(labels.names),
        train.kind,
        inputs,
    )
    return labels, folds


def _places(y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Place of a row within its class; rows of like labels stand beside each other."""
    place = np.zeros(len(y), int)
    if y.ndim == 1:
        for c in range(y.max() + 1):
            members = random.permutation(np.flatnonzero(y == c))
            place[members] = np.arange(len(members))
        return place
    group = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)
    mixed = random.permutation(len(y))
    place[mixed[np.argsort(group[mixed], kind="stable")]] = np.arange(len(y))
    return place


def _view(train: Examples, test: Examples | None, seed: int):
    """Columns of both, and what the modality's own members read."""
    if train.kind == "table":
        encode = Encoder(train.content)
        x = encode(train.content)
        rows = np.zeros((0, x.shape[1]), np.float32)
        return x, rows if test is None else encode(test.content), {}
    if train.kind == "text":
        return _view_text(train, test, seed)
    kind = SeriesView if train.kind == "series" else ImageView
    view = kind(train.content, *[seed] * (train.kind == "image"))
    x, arrays = view(train.content)
    rows, others = x[:0], arrays[:0]
    if test is not None:
        rows, others = view(test.content)
    return x, rows, {"convolution": (arrays, others)}


def _view_text(train: Examples, test: Examples | None, seed: int):
    view = TextView(train.content, seed)
    x, words, tokens = view(train.content)
    rows, other_words, other_tokens = x[:0], words[:0], tokens[:0]
    if test is not None:
        rows, other_words, other_tokens = view(test.content)
    if train.table is not None:  # the other columns of the csv file
        encode = Encoder(train.table)
        x = np.concatenate([x, encode(train.table)], 1)
        if test is not None:
            if test.table is None:
                raise ValueError(f"test: columns {list(train.table.columns)} missing")
            rows = np.concatenate([rows, encode(test.table)], 1)
        else:
            rows = x[:0]
    inputs = dict.fromkeys(("words", "counts"), (words, other_words))
    return x, rows, {**inputs, "tokens": (tokens, other_tokens)}

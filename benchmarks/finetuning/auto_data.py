"""Data that need no download, of every modality, for `benchmarks.finetuning_auto`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

_SCIPY = (
    "cluster.hierarchy",
    "fft",
    "integrate",
    "interpolate",
    "linalg",
    "ndimage",
    "optimize",
    "signal",
    "sparse",
    "spatial.distance",
    "special",
    "stats",
)


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows to learn from, and rows to predict.

    Attributes:
        kind: As `finetune.auto` takes it.
        x: Examples.
        y: Labels.
        test: Examples to predict.
        truth: Their labels.
    """

    kind: str
    x: Any
    y: np.ndarray
    test: Any
    truth: np.ndarray


def cut(kind: str, x: Any, y: np.ndarray, seed: int, share: float = 0.75) -> Split:
    """A share of the rows to learn from, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = np.split(order, [int(len(y) * share)])

    def take(rows):
        return [x[i] for i in rows] if isinstance(x, list) else x[rows]

    return Split(kind, take(train), y[train], take(test), y[test])


def packaged(name: str, seed: int) -> Split:
    """A table that scikit-learn ships."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    return cut("table", found.data, found.target, seed)


def digit_pictures(seed: int) -> Split:
    """scikit-learn's digits, 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    return cut("image", found.images, found.target, seed)


def digit_traits(seed: int) -> Split:
    """The digits' pictures with several labels: even, prime, with a loop, above 4."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    y = np.stack([np.isin(found.target, group) for group in _TRAITS], 1)
    return cut("image", found.images, y, seed)


_TRAITS = ((0, 2, 4, 6, 8), (2, 3, 5, 7), (0, 6, 8, 9), (5, 6, 7, 8, 9))


def topics(seed: int) -> Split:
    """scikit-learn's generated documents: counts of words, several topics each."""
    from sklearn.datasets import make_multilabel_classification

    x, y = make_multilabel_classification(  # type: ignore[misc]
        800, 40, n_classes=6, n_labels=2, random_state=seed
    )
    return cut("table", np.asarray(x), np.asarray(y), seed)


def summaries_of_functions(seed: int) -> Split:
    """Which part of SciPy is a function of? From the first paragraphs of its help."""
    texts, labels = [], []
    for name in _SCIPY:
        module = importlib.import_module(f"scipy.{name}")
        for each in getattr(module, "__all__", dir(module)):
            said = inspect.getdoc(getattr(module, each, None)) or ""
            paragraphs = [p for p in said.split("\n\n") if "(" not in p.split("\n")[0]]
            text = " ".join(" ".join(paragraphs[:2]).split())
            if len(text.split()) >= 5 and text not in texts:
                texts.append(text)
                labels.append(name)
    return cut("text", texts, np.array(labels), seed)


def control_charts(seed: int, num: int = 40, length: int = 60) -> Split:
    """Six kinds of charts: normal, cyclic, rising, falling, shifted up, shifted down.

    Source: Alcock and Manolopoulos, Time-Series Similarity Queries Employing a
    Feature-Based Approach (1999).
    """
    random = np.random.default_rng(seed)
    t = np.arange(length)

    def chart(c):
        x = 30 + 2 * random.uniform(-3, 3, length)
        slope, sign = random.uniform(0.2, 0.5), 1 if c in (2, 4) else -1
        if c == 1:
            size, period = random.uniform(10, 15, 2)
            return x + size * np.sin(2 * np.pi * t / period)
        if c in (2, 3):
            return x + sign * slope * t
        if c in (4, 5):
            start = random.uniform(length / 3, 2 * length / 3)
            return x + sign * random.uniform(7.5, 20) * (t >= start)
        return x

    y = np.repeat(np.arange(6), 2 * num)
    x = np.stack([chart(c) for c in y])[..., None]
    return cut("series", x, y, seed, 0.25)


def cylinder_bell_funnel(seed: int, num: int = 100, length: int = 128) -> Split:
    """A plateau, a rise or a fall somewhere in noise.

    Source: Saito, Local Feature Extraction and Its Applications Using a Library of
    Bases (1994).
    """
    random = np.random.default_rng(seed)
    t = np.arange(length)

    def curve(c):
        a = random.uniform(16, 32)
        b = a + random.uniform(32, 96)
        inside = (t >= a) & (t <= b)
        shape = {0: 1.0, 1: (t - a) / (b - a), 2: (b - t) / (b - a)}[int(c)]
        return (6 + random.normal()) * inside * shape + random.normal(size=length)

    y = np.repeat(np.arange(3), num)
    x = np.stack([curve(c) for c in y])[..., None]
    return cut("series", x, y, seed, 0.2)


DATA: dict[str, Callable[[int], Split]] = {
    "digits": lambda seed: packaged("digits", seed),
    "wine": lambda seed: packaged("wine", seed),
    "breast_cancer": lambda seed: packaged("breast_cancer", seed),
    "digit_pictures": digit_pictures,
    "functions": summaries_of_functions,
    "control_charts": control_charts,
    "cylinder_bell_funnel": cylinder_bell_funnel,
    "topics": topics,
    "digit_traits": digit_traits,
}

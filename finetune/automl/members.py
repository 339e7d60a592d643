"""What can be fitted to a table, an epoch at a time, on every fold.

The portfolio of scikit-learn's classifiers and small flax networks, with the search
space that the tuner sees. Needs scikit-learn, the extra ``auto``.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy.special import softmax

from finetune.automl import networks
from finetune.space import Categorical, Condition, Config, Float, Ordinal, SearchSpace
from jaxrl_runs.values import seed_key

NUM_EPOCHS = 9
_TREES, _ROUNDS = 25, 15  # that an epoch adds


def _of(*members: str) -> Condition:
    return Condition("member", members)


SPACE = SearchSpace(
    (
        Categorical(
            "member",
            (
                "bayes",
                "linear",
                "vectors",
                "neighbours",
                "forest",
                "boosting",
                "network",
            ),
        ),
        Float("smoothing", 1e-9, 1.0, log=True, condition=_of("bayes")),
        Float("C", 1e-3, 1e3, log=True, condition=_of("linear", "vectors")),
        Float("gamma", 1e-2, 1e1, log=True, condition=_of("vectors")),
        Float("num_near", 1, 30, log=True, integer=True, condition=_of("neighbours")),
        Float(
            "min_leaf",
            1,
            20,
            log=True,
            integer=True,
            condition=_of("forest", "boosting"),
        ),
        Float("share_of_columns", 0.1, 1.0, condition=_of("forest")),
        Float("rate", 1e-4, 1e-1, log=True, condition=_of("network")),
        Float("step", 0.03, 0.5, log=True, condition=_of("boosting")),
        Float("leaves", 4, 64, log=True, integer=True, condition=_of("boosting")),
        Float("l2", 1e-6, 10.0, log=True, condition=_of("boosting")),
        Ordinal("width", (64.0, 256.0), log=True, condition=_of("network")),
        Float("decay", 1e-5, 1e-1, log=True, condition=_of("network")),
        Float("dropout", 0.0, 0.5, condition=_of("network")),
        Float("label_smoothing", 0.0, 0.2, condition=_of("network")),
    )
)

# one of each, cheapest first: what usually works
PORTFOLIO: tuple[Config, ...] = (
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
)


@dataclasses.dataclass(frozen=True)
class Folds:
    """What members are fitted to.

    Attributes:
        x: Columns, float32 ``[n, d]``.
        y: Classes, int ``[n]``.
        train: Training rows of each fold.
        valid: Held-out rows of each fold.
        test: Columns of the rows to predict, ``[m, d]``.
        num_classes: Number of classes.
    """

    x: np.ndarray
    y: np.ndarray
    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: np.ndarray
    num_classes: int


class OutOfTime(Exception):
    """The budget ended in the middle of an epoch."""


@dataclasses.dataclass
class Fitted:
    """A configuration on all folds.

    Attributes:
        held_out: Probabilities of the rows that were held out, in the order of
            ``Folds.valid``, ``[v, classes]``.
        test: Mean probabilities of the folds' models, ``[m, classes]``.
        is_last: Whether there is nothing more to train.
    """

    held_out: np.ndarray
    test: np.ndarray
    is_last: bool


class SklearnRun:
    """A classifier of scikit-learn on every fold.

    Args:
        config: Of `SPACE`.
        folds: The data.
        seed: Of what is drawn.
    """

    def __init__(self, config: Config, folds: Folds, seed: int):
        self._config, self._folds = config, folds
        self._models = [_make(config, seed) for _ in folds.train]
        self._grows = config["member"] in ("forest", "boosting")
        self._epoch = 0

    def train_epoch(self, check: Callable[[], None]) -> Fitted:
        """Fit, or grow, on every fold.

        Args:
            check: Called before each fold; raises `OutOfTime`.
        """
        folds, held_out, test = self._folds, [], 0.0
        self._epoch += 1
        for model, train, valid in zip(
            self._models, folds.train, folds.valid, strict=True
        ):
            check()
            if self._config["member"] == "forest":
                model.n_estimators = _TREES * self._epoch
            elif self._config["member"] == "boosting":
                model.max_iter = _ROUNDS * self._epoch
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # no convergence is no news here
                model.fit(folds.x[train], folds.y[train])
            held_out.append(self._predict(model, folds.x[valid]))
            test = test + self._predict(model, folds.test) / len(folds.train)
        is_last = not self._grows or self._epoch >= NUM_EPOCHS
        return Fitted(np.concatenate(held_out), np.asarray(test), is_last)

    def _predict(self, model: Any, x: np.ndarray) -> np.ndarray:
        """Probabilities of all classes, of those too that a fold does not have."""
        found = np.zeros((len(x), self._folds.num_classes))
        if len(x) == 0:
            return found
        if hasattr(model, "predict_proba"):
            found[:, model.classes_] = model.predict_proba(x)
            return found
        margin = model.decision_function(x)
        if margin.ndim == 1:
            margin = np.stack([-margin, margin], 1)
        found[:, model.classes_] = softmax(3 * margin, 1)
        return found


def _make(config: Config, seed: int) -> Any:
    """The classifier of a configuration."""
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    member = config["member"]
    if member == "bayes":
        return GaussianNB(var_smoothing=config["smoothing"])
    if member == "linear":
        return LogisticRegression(C=config["C"], max_iter=200)
    if member == "vectors":
        return _Vectors(SVC, config["C"], config["gamma"])
    if member == "neighbours":
        return KNeighborsClassifier(config["num_near"], weights="distance")
    if member == "forest":
        return ExtraTreesClassifier(
            n_estimators=_TREES,
            min_samples_leaf=config["min_leaf"],
            max_features=config["share_of_columns"],
            warm_start=True,
            random_state=seed,
        )
    return HistGradientBoostingClassifier(
        max_iter=_ROUNDS,
        learning_rate=config["step"],
        max_leaf_nodes=config["leaves"],
        min_samples_leaf=config["min_leaf"],
        l2_regularization=config["l2"],
        early_stopping=False,  # type: ignore[arg-type]
        warm_start=True,
        random_state=seed,
    )


class _Vectors:
    """Support vectors with a kernel whose width is relative to the columns."""

    def __init__(self, kind: Any, c: float, gamma: float):
        self._kind, self._c, self._gamma = kind, c, gamma

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        gamma = self._gamma / (x.shape[1] * max(x.var(), 1e-9))
        self._model = self._kind(C=self._c, gamma=gamma).fit(x, y)
        self.classes_ = self._model.classes_

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return self._model.decision_function(x)


class NetworkRun:
    """A flax network on all folds at once.

    Args:
        config: Of `SPACE`.
        folds: The data.
        seed: Of weights, minibatches and dropout.
    """

    def __init__(self, config: Config, folds: Folds, seed: int):
        self._folds, self._key = folds, seed_key(seed)
        self._shape = {
            "width": int(config["width"]),
            "num_classes": folds.num_classes,
        }
        names = ("rate", "decay", "dropout", "label_smoothing")
        self._numbers = np.array([config[name] for name in names], np.float32)
        self._rows = networks.pad_rows(folds.train)
        self._steps = int(np.clip(4 * self._rows.shape[1] / networks.BATCH, 20, 400))
        self._state = networks.start(
            self._key, folds.x, num_folds=len(folds.train), **self._shape
        )
        self._epoch = 0

    def train_epoch(self, check: Callable[[], None]) -> Fitted:
        """Take the steps of an epoch on every fold."""
        check()
        folds = self._folds
        self._epoch += 1
        self._state = networks.train_epoch(
            jax.random.fold_in(self._key, self._epoch),
            self._state,
            folds.x,
            folds.y,
            self._rows,
            self._numbers,
            num_steps=self._steps,
            **self._shape,
        )
        both = np.concatenate([folds.x, folds.test])
        found = np.asarray(networks.predict(self._state, both, **self._shape))
        held_out = [found[k, rows] for k, rows in enumerate(folds.valid)]
        test = found[:, len(folds.x) :].mean(0)
        return Fitted(np.concatenate(held_out), test, self._epoch >= NUM_EPOCHS)


def start_run(config: Config, folds: Folds, seed: int) -> SklearnRun | NetworkRun:
    """Begin a run of a configuration."""
    kind = NetworkRun if config["member"] == "network" else SklearnRun
    return kind(config, folds, seed)

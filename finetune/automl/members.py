"""What can be fitted, an epoch at a time, on every fold.

scikit-learn's classifiers and small flax networks, of the configurations of
`finetune.automl.portfolio`. Needs scikit-learn, the extra ``auto``.
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
from finetune.automl.portfolio import NETWORKS, NUM_EPOCHS
from finetune.automl.views import Folds
from finetune.space import Config
from jaxrl_runs.values import seed_key

_TREES, _ROUNDS = 25, 15  # that an epoch adds
_PARTS = 4  # of an epoch of a network that is slow, between looks at the clock
_LEAST_STEPS = 80  # of an epoch of such a network
_CHUNK = 128  # rows that such a network predicts at a time


class OutOfTime(Exception):
    """The budget ended in the middle of an epoch."""


@dataclasses.dataclass
class Fitted:
    """A configuration on all folds.

    Attributes:
        held_out: Probabilities of the rows that were held out, in the order of
            ``Folds.valid``, ``[v, classes]`` or ``[v, labels]``.
        test: Mean probabilities of the folds' models, ``[m, classes or labels]``.
        is_last: Whether there is nothing more to train.
    """

    held_out: np.ndarray
    test: np.ndarray
    is_last: bool


class SklearnRun:
    """A classifier of scikit-learn on every fold; for several labels, one for each.

    Args:
        config: Of `make_space`.
        folds: The data.
        seed: Of what is drawn.
    """

    def __init__(self, config: Config, folds: Folds, seed: int):
        self._member, self._folds = config["member"], folds
        num = folds.num_classes if folds.y.ndim == 2 else 1
        self._models = [[_make(config, seed) for _ in range(num)] for _ in folds.train]
        self._epoch = 0

    def train_epoch(self, check: Callable[[], None]) -> Fitted:
        """Fit, or grow, on every fold.

        Args:
            check: Called before each fit; raises `OutOfTime`.
        """
        folds, held_out, test = self._folds, [], 0.0
        x, rows = folds.of(self._member)
        self._epoch += 1
        for models, train, valid in zip(
            self._models, folds.train, folds.valid, strict=True
        ):
            self._fit(models, x[train], folds.y[train], check)
            held_out.append(self._predict(models, x[valid]))
            test = test + self._predict(models, rows) / len(folds.train)
        grows = self._member in ("forest", "boosting")
        is_last = not grows or self._epoch >= NUM_EPOCHS
        return Fitted(np.concatenate(held_out), np.asarray(test), is_last)

    def _fit(self, models: list, x: Any, y: np.ndarray, check) -> None:
        for k, model in enumerate(models):
            check()
            target = y if y.ndim == 1 else y[:, k].astype(int)
            if self._member == "forest":
                model.n_estimators = _TREES * self._epoch
            elif self._member == "boosting":
                model.max_iter = _ROUNDS * self._epoch
            if y.ndim == 2 and len(np.unique(target)) == 1:
                models[k] = _Constant(int(target[0]))
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # no convergence is no news here
                model.fit(x, target)

    def _predict(self, models: list, x: Any) -> np.ndarray:
        if self._folds.y.ndim == 1:
            return _probabilities(models[0], x, self._folds.num_classes)
        return np.stack([_probabilities(m, x, 2)[:, 1] for m in models], 1)


def _probabilities(model: Any, x: Any, num_classes: int) -> np.ndarray:
    """Of all classes, of those too that a fold does not have, ``[n, classes]``."""
    found = np.zeros((x.shape[0], num_classes))
    if x.shape[0] == 0:
        return found
    if hasattr(model, "predict_proba"):
        found[:, model.classes_] = model.predict_proba(x)
        return found
    margin = model.decision_function(x)
    if margin.ndim == 1:
        margin = np.stack([-margin, margin], 1)
    found[:, model.classes_] = softmax(3 * margin, 1)
    return found


class _Constant:
    """Of a label that all training rows of a fold have, or none."""

    def __init__(self, label: int):
        self.classes_ = np.array([label])

    def fit(self, x: Any, y: np.ndarray) -> None:
        """Nothing to fit."""

    def predict_proba(self, x: Any) -> np.ndarray:
        return np.ones((x.shape[0], 1))


def _make(config: Config, seed: int) -> Any:
    """The classifier of a configuration."""
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB, MultinomialNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    member = config["member"]
    if member == "bayes":
        return GaussianNB(var_smoothing=config["smoothing"])
    if member == "counts":
        return MultinomialNB(alpha=config["smoothing"])
    if member in ("linear", "words"):
        most = 200 if member == "linear" else 50  # words are many
        return LogisticRegression(C=config["C"], max_iter=most)
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
        config: Of `make_space`.
        folds: The data.
        seed: Of weights, minibatches and dropout.
    """

    def __init__(self, config: Config, folds: Folds, seed: int):
        self._folds, self._key = folds, seed_key(seed)
        self._x, self._test = folds.of(config["member"])
        reads = {"network": "columns", "tokens": "tokens"}.get(
            config["member"], folds.kind
        )
        width = config["width" if reads == "columns" else "channels"]
        self._shape = networks.Shape(reads, int(width), folds.num_classes)
        names = ("rate", "decay", "dropout", "label_smoothing")
        self._numbers = np.array([config[name] for name in names], np.float32)
        self._rows = networks.pad_rows(folds.train)
        num_rows, is_slow = self._rows.shape[1], reads != "columns"
        is_small = is_slow and num_rows < 512
        self._batch = networks.SMALL_BATCH if is_small else networks.BATCH
        num_steps = (2 if is_slow else 4) * num_rows / self._batch
        self._parts = _PARTS if is_slow else 1
        # what is not trained by its first epoch is not given a second one
        least = _LEAST_STEPS if is_slow else 20
        self._steps = int(np.clip(num_steps, least, 400)) // self._parts
        self._state = networks.start(
            self._key, self._x[:1], self._shape, num_folds=len(folds.train)
        )
        self._epoch = 0

    def train_epoch(self, check: Callable[[], None]) -> Fitted:
        """Take the steps of an epoch on every fold.

        Args:
            check: Called before each part of them; raises `OutOfTime`.
        """
        folds = self._folds
        self._epoch += 1
        key = jax.random.fold_in(self._key, self._epoch)
        for part in range(self._parts):
            check()
            self._state = jax.block_until_ready(
                networks.train_epoch(
                    jax.random.fold_in(key, part) if part else key,
                    self._state,
                    self._x,
                    folds.y,
                    self._rows,
                    self._numbers,
                    shape=self._shape,
                    num_steps=self._steps,
                    batch_size=self._batch,
                )
            )
        found, test = self._predict(self._x), self._predict(self._test).mean(0)
        held_out = [found[k, rows] for k, rows in enumerate(folds.valid)]
        return Fitted(np.concatenate(held_out), test, self._epoch >= NUM_EPOCHS)

    def _predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of every fold's network, ``[folds, n, classes or labels]``."""
        several = self._folds.y.ndim == 2
        size = _CHUNK if self._parts > 1 else max(len(x), 1)
        padded = np.concatenate([x, np.zeros((-len(x) % size, *x.shape[1:]), x.dtype)])
        parts = [
            np.asarray(networks.predict(self._state, rows, self._shape, several))
            for rows in np.split(padded, max(len(padded) // size, 1))
        ]
        return np.concatenate(parts, 1)[:, : len(x)]


def start_run(config: Config, folds: Folds, seed: int) -> SklearnRun | NetworkRun:
    """Begin a run of a configuration."""
    kind = NetworkRun if config["member"] in NETWORKS else SklearnRun
    return kind(config, folds, seed)

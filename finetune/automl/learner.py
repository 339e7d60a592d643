"""From raw data to predictions under a time limit."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finetune.automl.data import Encoder, RawTable, from_arrays, read_table
from finetune.automl.ensemble import greedy_ensemble, log_loss
from finetune.automl.members import (
    NUM_EPOCHS,
    PORTFOLIO,
    SPACE,
    Fitted,
    Folds,
    OutOfTime,
    start_run,
)
from finetune.space import Config
from finetune.tuner import Tuner
from jaxrl_runs.values import FLAG, INDEX, POSITIVE, Function

_SMALL = 2000  # rows up to which five folds are held out in turn, not one fifth
_POOL = 25  # runs that the ensemble chooses from


@dataclasses.dataclass(frozen=True)
class AutoResult:
    """What was found.

    Attributes:
        classes: Labels, in the order of the columns of ``probabilities``.
        probabilities: Of the test rows, ``[m, classes]``.
        score: Accuracy of the ensemble on rows that its members have not seen.
        ensemble: Configurations with their weights.
        log: One row per epoch: seconds, run, member, epoch, loss, ensemble's loss and
            accuracy on held-out rows.
        predictions: Seconds and probabilities of each prediction that was made, in
            order; the last is ``probabilities``.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    score: float
    ensemble: list[tuple[Config, float]]
    log: list[dict[str, Any]]
    predictions: list[tuple[float, np.ndarray]]

    @property
    def labels(self) -> np.ndarray:
        """Predicted labels of the test rows, ``[m]``."""
        return self.classes[self.probabilities.argmax(1)]


def auto(
    data: Any,
    test: Any = None,
    *,
    minutes: float = 5.0,
    label: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> AutoResult:
    """Classify a table, or small pictures, within minutes.

    A cold tuner deals the time out to runs of scikit-learn's classifiers and small
    networks; a greedy ensemble of the best predicts, from the first second on.

    Args:
        data: Folder with ``train.csv`` or ``train.npz`` (and ``test.*``), such a file,
            or a pair of arrays: numbers ``[n, ...]`` and labels ``[n]``.
        test: File, or numbers ``[m, ...]``, to predict; None: that of the folder.
        minutes: Of wall time, or of ``clock``.
        label: Label column of a csv file.
        out: Folder for ``predictions.csv``, written anew as they improve, and
            ``log.json``.
        seed: Of everything that is drawn.
        progress: Whether a line tells how it goes.
        clock: Seconds.

    Raises:
        ValueError: If the data cannot be read, or hold fewer than two classes with two
            rows each.
        ImportError: Without scikit-learn.
    """
    POSITIVE.check("minutes", minutes)
    INDEX.check("seed", seed)
    FLAG.check("progress", progress)
    Function("() -> seconds").check("clock", clock)
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise ImportError(
            'finetune.auto needs scikit-learn: pip install "jaxrl-se[auto]"'
        ) from None
    started = clock()
    train_table, test_table = _read(data, test, label)
    classes, folds = prepare(train_table, test_table, seed)
    loop = _Loop(classes, folds, seed, clock, started, out, progress)
    return loop.run(60 * minutes)


def _read(data: Any, test: Any, label: str | None) -> tuple[RawTable, RawTable | None]:
    if isinstance(data, (str, Path)):
        path = Path(data)
        if path.is_dir():
            train = _find(path, "train")
            if train is None:
                raise ValueError(f"{path.name}: must hold train.csv or train.npz")
            test = _find(path, "test") if test is None else test
            path = train
        table = read_table(path, label)
        if table.labels is None:  # a csv file without a name that says "label"
            name = list(table.columns)[-1]
            labels = table.columns.pop(name)
            table = RawTable(table.columns, labels)
    elif isinstance(data, tuple) and len(data) == 2:
        table = from_arrays(*data)
    else:
        raise ValueError(
            "data must be a folder, a csv or npz file, or a pair (x, y), got "
            f"{type(data).__name__}"
        )
    if test is None or isinstance(test, RawTable):
        return table, test
    if isinstance(test, (str, Path)):
        return table, read_table(test)
    return table, from_arrays(test)


def _find(folder: Path, name: str) -> Path | None:
    found = [folder / f"{name}{kind}" for kind in (".csv", ".npz")]
    return next((path for path in found if path.exists()), None)


def prepare(
    table: RawTable, test: RawTable | None, seed: int
) -> tuple[np.ndarray, Folds]:
    """Encode, and hold rows out: each class in every fold, as far as it goes."""
    if table.labels is None:
        raise ValueError("y must be one label per row, got none")
    classes, y = np.unique(table.labels, return_inverse=True)
    if len(classes) < 2 or np.bincount(y).min() < 2:
        raise ValueError(
            "labels must be of two classes or more, with two rows or more each, got "
            f"{dict(zip(classes.tolist(), np.bincount(y).tolist(), strict=True))}"
        )
    encode = Encoder(table)
    x = encode(table)
    rows = np.zeros((0, x.shape[1]), np.float32) if test is None else encode(test)
    random = np.random.default_rng(seed)
    place = np.zeros(len(y), int)  # place of a row within its class
    for c in range(len(classes)):
        members = random.permutation(np.flatnonzero(y == c))
        place[members] = np.arange(len(members))
    num = 5 if len(y) <= _SMALL else 1
    valid = [np.flatnonzero(place % 5 == k) for k in range(num)]
    train = [np.flatnonzero(place % 5 != k) for k in range(num)]
    return classes, Folds(x, y, train, valid, rows, len(classes))


def prepare_arrays(x: Any, y: Any, test: Any, seed: int) -> tuple[np.ndarray, Folds]:
    """The classes and folds that `auto` makes of arrays."""
    return prepare(from_arrays(x, y), from_arrays(test), seed)


class _Loop:
    """Asks the tuner, trains, mixes, writes."""

    def __init__(self, classes, folds: Folds, seed, clock, started, out, progress):
        self._classes, self._folds, self._seed = classes, folds, seed
        self._clock, self._started = clock, started
        self._out = None if out is None else Path(out)
        if self._out is not None:
            self._out.mkdir(parents=True, exist_ok=True)
        self._progress = progress
        self._truth = folds.y[np.concatenate(folds.valid)]
        random = np.random.default_rng(seed)
        candidates = [*map(dict, PORTFOLIO), *SPACE.sample_distinct(random, 300)]
        if len(folds.x) > 20_000:  # quadratic in the rows
            slow = ("vectors", "neighbours")
            candidates = [c for c in candidates if c["member"] not in slow]
        self._tuner = Tuner(
            SPACE,
            candidates=candidates,
            num_epochs=NUM_EPOCHS,
            direction="minimize",
            seed=seed,
        )
        self._runs: dict[int, Any] = {}
        self._found: dict[int, tuple[float, Fitted]] = {}
        self._loss = np.inf
        self._weights: dict[int, float] = {}
        self.log: list[dict[str, Any]] = []
        self.predictions: list[tuple[float, np.ndarray]] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def run(self, budget: float) -> AutoResult:
        """Until the budget is spent; the first model is trained in any case."""

        def check():
            if self.predictions and self.elapsed >= budget:
                raise OutOfTime

        while not self.predictions or self.elapsed < budget:
            try:
                self._step(check)
            except (OutOfTime, RuntimeError):  # RuntimeError: all is trained
                break
        if self._progress:
            print(file=sys.stderr)
        weights = sorted(self._weights.items(), key=lambda item: -item[1])
        held_out = self._mix(lambda fitted: fitted.held_out)
        return AutoResult(
            self._classes,
            self.predictions[-1][1],
            float((held_out.argmax(1) == self._truth).mean()),
            [(self._tuner.candidates[run], weight) for run, weight in weights],
            self.log,
            self.predictions,
        )

    def _step(self, check: Callable[[], None]) -> None:
        """One epoch of one configuration."""
        trial = self._tuner.suggest()
        started = self._clock()
        try:
            if trial.epoch == 1:
                seed = self._seed + trial.id
                self._runs[trial.id] = start_run(trial.config, self._folds, seed)
            fitted = self._runs[trial.id].train_epoch(check)
            loss = log_loss(fitted.held_out, self._truth)
            if not np.isfinite(loss):
                raise ValueError("the loss is not finite")
        except (ValueError, MemoryError, FloatingPointError) as error:
            seconds = max(self._clock() - started, 0.0)
            self._tuner.observe_failure(trial, seconds)
            self._runs.pop(trial.id, None)
            self._note(trial, None, str(error))
            return
        seconds = max(self._clock() - started, 1e-6)
        self._tuner.observe(trial, loss, seconds, fitted.is_last)
        if fitted.is_last:
            self._runs.pop(trial.id)
        if trial.id not in self._found or loss < self._found[trial.id][0]:
            self._found[trial.id] = loss, fitted
            self._mix_anew(trial.id)
        self._note(trial, loss, "")

    def _mix_anew(self, run: int) -> None:
        """Choose the ensemble again, and predict where it became better."""
        best = sorted(self._found, key=lambda i: self._found[i][0])
        for worse in best[_POOL:]:
            del self._found[worse]
        if run not in self._found:
            return
        best = best[:_POOL]
        weights = greedy_ensemble(
            [self._found[i][1].held_out for i in best], self._truth
        )
        before = self._weights
        self._weights = {
            i: float(w) for i, w in zip(best, weights, strict=True) if w > 0
        }
        loss = log_loss(self._mix(lambda fitted: fitted.held_out), self._truth)
        if loss >= self._loss and set(before) <= set(self._found):
            self._weights = before
            return
        self._loss = loss
        self.predictions.append((self.elapsed, self._mix(lambda fitted: fitted.test)))
        if self._out is not None:
            self._write(self._out)

    def _mix(self, of: Callable[[Fitted], np.ndarray]) -> np.ndarray:
        parts = [w * of(self._found[i][1]) for i, w in self._weights.items()]
        return np.sum(parts, 0)

    def _write(self, folder: Path) -> None:
        """The old file or the whole new one, never a part."""
        partial = folder / f"predictions.{os.getpid()}.partial"
        with partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", *self._classes.tolist()])
            for row in self.predictions[-1][1]:
                label = self._classes[row.argmax()]
                writer.writerow([label, *np.round(row, 6).tolist()])
        os.replace(partial, folder / "predictions.csv")

    def _note(self, trial, loss: float | None, failure: str) -> None:
        row = {
            "seconds": self.elapsed,
            "run": trial.id,
            "member": trial.config["member"],
            "epoch": trial.epoch,
            "loss": loss,
            "ensemble_loss": None if np.isinf(self._loss) else self._loss,
            "failure": failure,
        }
        self.log.append(row)
        if self._out is not None:
            (self._out / "log.json").write_text(json.dumps(self.log))
        if self._progress:
            line = (
                f"{self.elapsed:.0f} s, {len(self.log)} epochs, "
                f"held-out loss {self._loss:.4f}, now {row['member']}"
            )
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

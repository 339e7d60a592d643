"""From raw data to predictions under a time limit."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.automl.ensemble import greedy_ensemble, log_loss
from finetune.automl.inputs import read_examples
from finetune.automl.labels import Labels, decide, score
from finetune.automl.members import Fitted, OutOfTime, start_run
from finetune.automl.portfolio import NUM_EPOCHS, make_portfolio, make_space
from finetune.automl.views import Folds, prepare
from finetune.space import Config
from finetune.tuner import Tuner
from jaxrl_runs.values import FLAG, INDEX, POSITIVE, Function

_POOL = 25  # runs that the ensemble chooses from
_TELL_EVERY = 5.0  # seconds between lines in a file


@dataclasses.dataclass(frozen=True)
class AutoResult:
    """What was found.

    Attributes:
        classes: Classes, or labels where a row has several, in the order of the columns
            of ``probabilities``.
        probabilities: Of the test rows, ``[m, classes]`` or ``[m, labels]``.
        score: Accuracy of the ensemble on rows that its members have not seen, by which
            members and weights were chosen, so that with few rows it is too high; for
            several labels the mean area under their ROC curves.
        ensemble: Configurations with their weights.
        log: One row per epoch: seconds, run, member, epoch, loss, ensemble's loss and
            accuracy on held-out rows.
        predictions: Seconds and probabilities of each prediction that was made, in
            order; the last is ``probabilities``.
        kind: The modality: "table", "text", "series" or "image".
        several: Whether a row has any number of labels.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    score: float
    ensemble: list[tuple[Config, float]]
    log: list[dict[str, Any]]
    predictions: list[tuple[float, np.ndarray]]
    kind: str = "table"
    several: bool = False

    @property
    def labels(self) -> np.ndarray:
        """Predicted classes of the test rows, ``[m]``, or bool ``[m, labels]``."""
        return decide(self.classes, self.probabilities, self.several)


def auto(
    data: Any,
    test: Any = None,
    *,
    minutes: float = 5.0,
    label: str | Sequence[str] | None = None,
    kind: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> AutoResult:
    """Classify tables, texts, series or pictures, within minutes.

    A cold tuner deals the time out to runs of scikit-learn's classifiers and small
    networks; a greedy ensemble of the best predicts, from the first second on.

    Args:
        data: Pair of examples and labels, a csv or npz file, or a folder with
            ``train.csv`` or ``train.npz`` (and ``test.*``), or with a folder of
            pictures or txt files per class, as it is or in ``train/`` (and ``test/``).
            Examples are numbers ``[n, d]`` (a table), strings (texts), numbers ``[n,
            length, channels]`` (series) or ``[n, height, width, channels]``
            (pictures). Labels are one per row, or several: 0 and 1, ``[n, labels]``,
            or sets of names.
        test: File, folder or examples to predict; None: what the folder has.
        minutes: Of wall time, or of ``clock``.
        label: Label column of a csv file; or several columns of 0 and 1.
        kind: "table", "text", "series" or "image", where it is not what the shape of
            the data says.
        out: Folder for ``predictions.csv``, written anew as they improve, and
            ``log.json``.
        seed: Of everything that is drawn.
        progress: Whether a line tells how it goes.
        clock: Seconds.

    Raises:
        ValueError: If the data cannot be read, rows have different lengths, or there
            are fewer than two classes with two rows each.
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
    train, rows = read_examples(data, test, label, kind)
    labels, folds = prepare(train, rows, seed)
    files = None if rows is None else rows.files
    loop = _Loop(labels, folds, seed, clock, started, out, progress, files)
    return loop.run(60 * minutes)


class _Loop:
    """Asks the tuner, trains, mixes, writes."""

    def __init__(
        self, labels: Labels, folds: Folds, seed, clock, started, out, progress, files
    ):
        self._labels, self._folds, self._seed = labels, folds, seed
        self._files = files
        self._clock, self._started = clock, started
        self._out = None if out is None else Path(out)
        if self._out is not None:
            self._out.mkdir(parents=True, exist_ok=True)
        self._progress, self._told = progress, 0.0
        self._truth = folds.y[np.concatenate(folds.valid)]
        random = np.random.default_rng(seed)
        space = make_space(folds.kind)
        first = map(dict, make_portfolio(folds.kind))
        candidates = [*first, *space.sample_distinct(random, 300)]
        if len(folds.x) > 20_000:  # quadratic in the rows
            slow = ("vectors", "neighbours")
            candidates = [c for c in candidates if c["member"] not in slow]
        self._tuner = Tuner(
            space,
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
            self._labels.names,
            self.predictions[-1][1],
            score(held_out, self._truth),
            [(self._tuner.candidates[run], weight) for run, weight in weights],
            self.log,
            self.predictions,
            self._folds.kind,
            self._labels.several,
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
        names, several = self._labels.names, self._labels.several
        found = self.predictions[-1][1]
        chosen = decide(names, found, several)
        partial = folder / f"predictions.{os.getpid()}.partial"
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            named = [] if self._files is None else ["file"]
            writer.writerow([*named, "label", *names.tolist()])
            for i, row in enumerate(found):
                label = ";".join(map(str, names[chosen[i]])) if several else chosen[i]
                named = [] if self._files is None else [self._files[i]]
                writer.writerow([*named, label, *np.round(row, 6).tolist()])
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
        if self._progress and (sys.stderr.isatty() or self._is_due()):
            line = (
                f"{self.elapsed:.0f} s, {len(self.log)} epochs, "
                f"held-out loss {self._loss:.4f}, now {row['member']}"
            )
            written_over = sys.stderr.isatty()
            print(
                f"\r\x1b[K{line}" if written_over else line,
                end="" if written_over else "\n",
                file=sys.stderr,
                flush=True,
            )

    def _is_due(self) -> bool:
        """Whether a file, in which nothing is written over, is told again."""
        if self.elapsed - self._told < _TELL_EVERY and len(self.log) > 1:
            return False
        self._told = self.elapsed
        return True

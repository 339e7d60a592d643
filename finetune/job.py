"""The loop around a tuner: trains, catches failures, writes, resumes, reports."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import json
import pickle
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from finetune.bundle import Surrogates
from finetune.meta_dataset import MetaDataset
from finetune.space import Config, SearchSpace
from finetune.tuner import Trial, Tuner
from finetune.workers import Done, Epoch, Here, Processes, TrainEpoch
from jaxrl_runs.run_folder import RunFolder
from jaxrl_runs.values import (
    FLAG,
    PATH,
    POSITIVE_OR_NONE,
    Function,
    Integer,
    Number,
    Text,
)


@dataclasses.dataclass(frozen=True)
class JobResult:
    """What a job has found.

    Attributes:
        config: The best configuration; None where every run failed.
        score: Its best score.
        epoch: The epoch that reached it, counted from 1.
        checkpoint: Folder that this epoch has filled.
        log: One row per epoch: run, epoch, score, seconds, best, elapsed, failure.
        stopped_by: "budget", "should_stop" or "no open candidate".
    """

    config: Config | None
    score: float | None
    epoch: int | None
    checkpoint: Path | None
    log: list[dict[str, Any]]
    stopped_by: str


def run(
    train_epoch: TrainEpoch | str | Path,
    space: SearchSpace | None = None,
    meta_features: Any = None,
    *,
    budget: float | None = None,
    out: str | Path,
    surrogates: Surrogates | None = None,
    meta_dataset: MetaDataset | None = None,
    num_epochs: int = 50,
    direction: str = "maximize",
    workers: int = 1,
    timeout: float | None = None,
    device_variable: str | None = None,
    resume: bool = False,
    progress: bool = True,
    seed: int = 0,
    **settings: Any,
) -> JobResult:
    """Tune one finetuning task until the budget is spent.

    Asks the tuner, trains one epoch from the run's checkpoint, tells score and seconds,
    and writes everything after every epoch. A run whose epoch raises, returns NaN, runs
    out of memory, takes longer than ``timeout`` or whose process dies is recorded as
    failed and never chosen again. A job that was killed goes on with ``resume=True``
    to the choices it would have made, given the same scores and seconds.

    Args:
        train_epoch: Trains one epoch: gets an `Epoch`, goes on from what the
            epoch before has left in ``epoch.previous``, saves its own state to
            ``epoch.folder`` and returns the validation score, or an `Outcome`.
            Epochs may take unequal time. Or a folder of pictures, with ``models`` and
            ``minutes``: see `run_images`. With ``workers`` above 1 or a ``timeout`` it
            must be a function of a module, which worker processes import.
        space: Search space of the user's own, or give ``surrogates``.
        meta_features: Of the task, where there are surrogates.
        budget: Seconds of wall time, over all resumes together; must be given.
        out: Folder of the job.
        surrogates: Of the search space; `Surrogates.load` gives shipped ones.
        meta_dataset: Past runs on ``space``.
        num_epochs: Most epochs of a run; with surrogates it is theirs.
        direction: Whether the score is to "maximize" or "minimize" (any scale, from a
            cold start).
        workers: Processes that train at the same time.
        timeout: Most seconds of an epoch.
        device_variable: Environment variable that is set to the number of the worker,
            such as "CUDA_VISIBLE_DEVICES".
        resume: Go on with the job in ``out``.
        progress: Whether a line tells how it goes.
        seed: Of the tuner and of the runs.
        **settings: Of `Tuner`.

    Returns:
        The best configuration with its checkpoint, and the log.

    Raises:
        ValueError: If an argument is out of range.
        RuntimeError: If nothing but failures comes of the first eight epochs.
        RunFolderError: If ``out`` holds a job and ``resume`` is False, holds another
            one, is in use, or cannot be written.
    """
    if isinstance(train_epoch, (str, Path)):
        from finetune.images import run_images

        if not Path(train_epoch).is_dir():
            raise ValueError(
                "train_epoch: a folder must be a folder of pictures, got "
                f"{str(train_epoch)!r}, which is none"
            )
        own = (space, meta_features, surrogates, meta_dataset)
        if any(each is not None for each in own) or direction != "maximize":
            raise ValueError(
                "space, meta_features, surrogates and meta_dataset must be None, and "
                "direction 'maximize', for a folder of pictures, which the shipped "
                "surrogates know what to do with"
            )
        minutes = settings.pop("minutes", None if budget is None else budget / 60)
        shared = {"workers": workers, "timeout": timeout, "resume": resume}
        shared |= {"device_variable": device_variable, "progress": progress}
        models = settings.pop("models", ())
        more: dict[str, Any] = {**shared, **settings, "seed": seed}
        return run_images(train_epoch, models, minutes=minutes, out=out, **more)
    _check(train_epoch, budget, workers, timeout)
    _check_settings(settings)
    PATH.check("out", out)
    FLAG.check("resume", resume)
    FLAG.check("progress", progress)
    Text(optional=True).check("device_variable", device_variable)
    tuner = Tuner(
        space,
        meta_dataset,
        meta_features,
        surrogates=surrogates,
        num_epochs=num_epochs,
        direction=direction,
        seed=seed,
        **settings,
    )
    identity = _identity(tuner, direction)
    with RunFolder(out, identity, resume=resume) as folder:
        job = _Job(tuner, folder, budget, seed, progress)
        if workers == 1 and timeout is None and device_variable is None:
            place: Here | Processes = Here(train_epoch)
        else:
            place = Processes(train_epoch, workers, timeout, device_variable)
        try:
            return job.run(place)
        except KeyboardInterrupt:
            print(f"\ninterrupted; resume=True goes on in {out}", file=sys.stderr)
            raise
        finally:
            place.close()


_MOST_FAILED = 8  # In a row, from the start: then the function is at fault.


def _check_settings(settings: dict[str, Any]) -> None:
    """Raises TypeError for settings that neither `run` nor `Tuner` has."""
    known = [
        name for f in (run, Tuner.__init__) for name in inspect.signature(f).parameters
    ]
    for name in settings:
        if name not in known:
            words = [k for k in known if k in name] or difflib.get_close_matches(
                name, known, n=1
            )
            hint = f"; did you mean {words[0]!r}?" if words else ""
            raise TypeError(
                f"settings must be those of run or of Tuner, got {name!r}{hint}"
            )


def _check(train_epoch: Any, budget: Any, workers: Any, timeout: Any) -> None:
    Function("(epoch) -> score").check("train_epoch", train_epoch)
    Number(above=0, infinite=True).check("budget", budget)
    POSITIVE_OR_NONE.check("timeout", timeout)
    Integer(at_most=2**16).check("workers", workers)
    if workers > 1 or timeout is not None:
        try:
            pickle.dumps(train_epoch)
        except Exception as error:
            raise ValueError(
                "train_epoch must be a function of a module, which worker processes "
                f"can import, got {train_epoch!r} ({error})"
            ) from None


def _identity(tuner: Tuner, direction: str) -> dict[str, Any]:
    """What a job depends on, but for the seconds it may take."""
    candidates = json.dumps(tuner.candidates, sort_keys=True).encode()
    return {
        "space": json.loads(tuner.space.to_json()),
        "candidates": hashlib.sha256(candidates).hexdigest()[:16],
        "num_epochs": tuner.num_epochs,
        "direction": direction,
        "refit": tuner.refit,
        "is_cold": tuner.is_cold,
        "seed": tuner.seed,
    }


class _Job:
    """The state of one job, and its folder.

    DIR/job.json           everything asked and told, after every epoch
    DIR/metrics.csv        one row per epoch
    DIR/runs/RUN/EPOCH/    what an epoch left: the last and the best one are kept
    DIR/curves.png         at the end
    """

    def __init__(self, tuner, folder: RunFolder, budget, seed, progress):
        self.tuner, self.folder = tuner, folder
        self.budget, self.seed, self.progress = budget, seed, progress
        self.log: list[dict[str, Any]] = []
        self._spent = 0.0
        found = folder.read_json("job.json")
        if found is not None:
            tuner.restore(found["history"], "job.json")
            self.log, self._spent = found["log"], found["elapsed"]
        self._known = len(self.log)
        folder.start_metrics(self.log)
        self._started = time.perf_counter()
        self._last_line = -np.inf

    @property
    def elapsed(self) -> float:
        """Seconds of wall time, over all resumes."""
        return self._spent + time.perf_counter() - self._started

    def run(self, place: Here | Processes) -> JobResult:
        """Ask and tell until something ends it."""
        trials: dict[int, Trial] = {}
        reason = ""
        while True:
            while not reason and place.num_idle:
                reason = self._reason_to_stop()
                if reason:
                    break
                try:
                    trial = self.tuner.suggest()
                except RuntimeError:
                    reason = "" if trials else "no open candidate"
                    break
                trials[trial.id] = trial
                place.start(self._prepare(trial))
            if not trials:
                break
            for epoch, done in place.wait():
                self._record(trials.pop(epoch.run), epoch, done)
        self._say(f"stopped: {reason}", is_last=True)
        result = self._result(reason)
        self._draw()
        return result

    def _reason_to_stop(self) -> str:
        since = self.log[self._known :]
        if len(since) >= _MOST_FAILED and all(row["failure"] for row in since):
            raise RuntimeError(
                f"train_epoch: all {len(since)} epochs so far have failed, the last "
                f"one with {since[-1]['failure']!r}; resume=True goes on once it is "
                "mended"
            )
        if self.elapsed >= self.budget:
            return "budget"
        return "should_stop" if self.tuner.should_stop else ""

    def _path(self, run: int, epoch: int) -> Path:
        return self.folder.path / "runs" / f"{run:04d}" / f"{epoch:04d}"

    def _prepare(self, trial: Trial) -> Epoch:
        """Make the empty folder that the epoch fills."""
        path = self._path(trial.id, trial.epoch)
        partial = path.with_suffix(".partial")
        for old in (path, partial):  # of an epoch that was cut off
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir(parents=True)
        previous = None if trial.epoch == 1 else self._path(trial.id, trial.epoch - 1)
        return Epoch(
            dict(trial.config),
            trial.epoch,
            previous,
            partial,
            trial.id,
            int(np.random.SeedSequence([self.seed, trial.id]).generate_state(1)[0]),
        )

    def _record(self, trial: Trial, epoch: Epoch, done: Done) -> None:
        """Tell the tuner, write everything, and drop checkpoints nobody needs."""
        outcome, failure = done.outcome, done.failure
        before = self._best_row()
        if outcome is not None and not failure:
            try:
                self.tuner.observe(trial, outcome.score, done.seconds, outcome.is_last)
            except ValueError as error:  # out of the range that surrogates know
                failure = str(error)
        if failure:
            self.tuner.observe_failure(trial, done.seconds)
            shutil.rmtree(epoch.folder, ignore_errors=True)
        else:
            epoch.folder.rename(self._path(trial.id, trial.epoch))
        best = self.tuner.best
        row = {
            "run": trial.id,
            "epoch": trial.epoch,
            "score": None if failure or outcome is None else outcome.score,
            "seconds": done.seconds,
            "best": None if best is None else best[1],
            "elapsed": self.elapsed,
            "failure": failure,
            "reason": trial.reason,
        }
        self.log.append(row)
        content = {"history": self.tuner.history(), "log": self.log}
        self.folder.write_json("job.json", {**content, "elapsed": self.elapsed})
        self.folder.append_metrics(row)
        self._drop_checkpoints(trial, before)
        self._say(f"run {trial.id} failed: {failure}" if failure else "")

    def _best_row(self) -> dict[str, Any] | None:
        rows = [row for row in self.log if row["score"] is not None]
        if not rows:
            return None
        sign = 1 if self.tuner.direction == "maximize" else -1
        return max(rows, key=lambda row: sign * row["score"])

    def _drop_checkpoints(self, trial: Trial, before: dict[str, Any] | None) -> None:
        """Keep what can be gone on from, and the best."""
        best = self._best_row()
        old = {(trial.id, trial.epoch - 1), (trial.id, trial.epoch)}
        if before is not None:
            old.add((before["run"], before["epoch"]))
        for run, epoch in old:
            is_best = best is not None and (run, epoch) == (best["run"], best["epoch"])
            if not is_best and not self.tuner.is_continued_from(run, epoch):
                shutil.rmtree(self._path(run, epoch), ignore_errors=True)

    def _result(self, reason: str) -> JobResult:
        best = self._best_row()
        if best is None:
            return JobResult(None, None, None, None, self.log, reason)
        return JobResult(
            self.tuner.candidates[best["run"]],
            best["score"],
            best["epoch"],
            self._path(best["run"], best["epoch"]),
            self.log,
            reason,
        )

    def _say(self, event: str = "", is_last: bool = False) -> None:
        """One line that is written over on terminals, and now and then elsewhere."""
        is_terminal = sys.stderr.isatty()
        now = time.perf_counter()
        if not self.progress:
            return
        if not (is_terminal or event or is_last or now - self._last_line > 30):
            return
        self._last_line = now
        num_failed = sum(bool(row["failure"]) for row in self.log)
        best = self._best_row()
        parts = [
            f"{self.elapsed:.0f} of {self.budget:.0f} s",
            f"{len(self.log)} epochs of {len({row['run'] for row in self.log})} runs",
            f"{num_failed} failed" if num_failed else "",
            ""
            if best is None
            else f"best {best['score']:.4g} (run {best['run']}, epoch {best['epoch']})",
            event,
        ]
        line = ", ".join(part for part in parts if part)
        end = "\n" if is_last or event or not is_terminal else ""
        start = "\r\x1b[K" if is_terminal else ""
        print(f"{start}{line}", end=end, file=sys.stderr, flush=True)

    def _draw(self) -> None:
        """A picture of all curves, where Matplotlib is installed."""
        try:
            from finetune.pictures import draw_job
        except ImportError:
            return
        draw_job(self.log, self.tuner.direction, self.folder.path / "curves.png")

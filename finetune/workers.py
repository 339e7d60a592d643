"""Where epochs are trained: in this process, or in worker processes."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from finetune.space import Config


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One epoch to be trained.

    Attributes:
        config: The configuration.
        number: Which epoch of the run, counted from 1.
        previous: Folder that the epoch before has filled; None before the first one.
        folder: Empty folder for what the next epoch and you need: a checkpoint.
        run: Number of the run, the same for all its epochs.
        seed: Of the run; the same for all its epochs.
    """

    config: Config
    number: int
    previous: Path | None
    folder: Path
    run: int
    seed: int


class Outcome(NamedTuple):
    """What an epoch has come to; a plain number is one, too.

    Attributes:
        score: Validation score after the epoch.
        is_last: Whether the run ends here, before its budget.
        seconds: To be counted instead of those that were measured.
    """

    score: float
    is_last: bool = False
    seconds: float | None = None


TrainEpoch = Callable[[Epoch], "Outcome | float"]


class Done(NamedTuple):
    """An epoch that is over: an outcome with its seconds, or a failure in words."""

    outcome: Outcome | None
    seconds: float
    failure: str = ""


def train(train_epoch: TrainEpoch, epoch: Epoch) -> Done:
    """Train one epoch here, and turn whatever goes wrong into words.

    Ctrl-C and an exit of the process are not caught.
    """
    started = time.perf_counter()
    failure = ""
    outcome = None
    try:
        found = train_epoch(epoch)
        outcome = found if isinstance(found, Outcome) else Outcome(found)  # type: ignore[arg-type]
        outcome, failure = _check_outcome(outcome)
    except MemoryError:
        failure = "out of memory"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        failure = f"{type(error).__name__}: {error} ({place})"
        if "out of memory" in failure.lower() or "RESOURCE_EXHAUSTED" in failure:
            failure = f"out of memory: {failure}"
    seconds = max(time.perf_counter() - started, 1e-6)
    if outcome is not None and outcome.seconds is not None:
        seconds = float(outcome.seconds)
    return Done(outcome, seconds, failure)


def _check_outcome(outcome: Outcome) -> tuple[Outcome | None, str]:
    score, seconds = np.asarray(outcome.score), outcome.seconds
    if score.size != 1 or not np.issubdtype(score.dtype, np.number):
        raise TypeError(
            f"train_epoch must return a number or an Outcome, got {outcome.score!r}"
        )
    if seconds is not None and not (np.isfinite(seconds) and seconds > 0):
        raise ValueError(f"Outcome.seconds must be a positive number, got {seconds!r}")
    if not np.isfinite(score).all():
        return None, f"score is {float(score.reshape(()))}"
    return outcome._replace(score=float(score.reshape(()))), ""


class Here:
    """Trains in this process, one epoch at a time."""

    def __init__(self, train_epoch: TrainEpoch):
        self._train_epoch = train_epoch
        self._epoch: Epoch | None = None

    @property
    def num_idle(self) -> int:
        """How many more epochs can be started."""
        return int(self._epoch is None)

    def start(self, epoch: Epoch) -> None:
        """Take an epoch; it is trained by `wait`."""
        self._epoch = epoch

    def wait(self) -> list[tuple[Epoch, Done]]:
        """Train the epoch that was taken."""
        assert self._epoch is not None
        epoch, self._epoch = self._epoch, None
        return [(epoch, train(self._train_epoch, epoch))]

    def close(self) -> None:
        """Nothing to do."""


class _Worker(NamedTuple):
    process: Any
    pipe: Connection


class Processes:
    """Trains in processes; one that dies or takes too long is replaced.

    Args:
        train_epoch: A function of a module, so that processes can import it.
        num: How many.
        timeout: Most seconds of an epoch.
        device_variable: Environment variable that is set to the worker's number.
    """

    def __init__(
        self,
        train_epoch: TrainEpoch,
        num: int,
        timeout: float | None,
        device_variable: str | None,
    ):
        self._train_epoch = train_epoch
        self._timeout = timeout
        self._device_variable = device_variable
        self._context = multiprocessing.get_context("spawn")
        self._is_ready: set[int] = set()
        self._jobs: dict[int, Epoch] = {}
        self._started: dict[int, float] = {}
        self._workers = [self._start_process(i) for i in range(num)]

    @property
    def num_idle(self) -> int:
        """How many more epochs can be started."""
        return len(self._workers) - len(self._jobs)

    def start(self, epoch: Epoch) -> None:
        """Hand an epoch to an idle worker."""
        number = next(i for i in range(len(self._workers)) if i not in self._jobs)
        with contextlib.suppress(OSError):  # dead: wait() finds out
            self._workers[number].pipe.send(epoch)
        self._jobs[number] = epoch
        self._started[number] = time.perf_counter()

    def wait(self) -> list[tuple[Epoch, Done]]:
        """Wait until an epoch is over."""
        found: list[tuple[Epoch, Done]] = []
        while not found:
            busy = {self._workers[i].pipe: i for i in self._jobs}
            ready = wait(list(busy), self._seconds_left())
            for pipe in ready:
                number = busy[pipe]  # type: ignore[index]
                done = self._receive(number)
                if done is not None:
                    found.append((self._jobs.pop(number), done))
            if not ready:
                found += self._end_late()
        return found

    def _receive(self, number: int) -> Done | None:
        """What a worker says; None: that it has started, and its epoch begins now."""
        try:
            done = self._workers[number].pipe.recv()
        except (EOFError, OSError):
            process = self._workers[number].process
            process.join()
            code = process.exitcode
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
            hint = ", perhaps out of memory" if code == -signal.SIGKILL else ""
            if number not in self._is_ready:
                raise RuntimeError(
                    f"a worker process ended before it began ({reason}); can it import "
                    f"{self._train_epoch!r}?"
                ) from None
            done = Done(None, self._age(number), f"the process ended ({reason}{hint})")
            self._replace(number)
        if done is None:
            self._is_ready.add(number)
            self._started[number] = time.perf_counter()
        return done

    def _age(self, number: int) -> float:
        return max(time.perf_counter() - self._started[number], 1e-6)

    def _seconds_left(self) -> float | None:
        """Until the first epoch is late; starting a process does not count."""
        ages = [self._age(i) for i in self._jobs if i in self._is_ready]
        if self._timeout is None or not ages:
            return None
        return max(self._timeout - max(ages), 0.0)

    def _end_late(self) -> list[tuple[Epoch, Done]]:
        found = []
        for number in list(self._jobs):
            seconds = self._age(number)
            if number in self._is_ready and seconds >= (self._timeout or np.inf):
                self._replace(number)
                failure = f"took longer than {self._timeout:g} s"
                found.append((self._jobs.pop(number), Done(None, seconds, failure)))
        return found

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()

    def _replace(self, number: int) -> None:
        worker = self._workers[number]
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._is_ready.discard(number)
        self._workers[number] = self._start_process(number)

    def _start_process(self, number: int) -> _Worker:
        here, there = self._context.Pipe()
        with _variable(self._device_variable, str(number)):
            process = self._context.Process(
                target=_serve, args=(self._train_epoch, there), daemon=True
            )
            process.start()
        there.close()
        return _Worker(process, here)


@contextlib.contextmanager
def _variable(name: str | None, value: str) -> Iterator[None]:
    """Set an environment variable for processes that are started inside."""
    if name is None:
        yield
        return
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _serve(train_epoch: TrainEpoch, pipe: Connection) -> None:
    """Train epochs until the other side is gone."""
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        pipe.send(None)
        while True:
            pipe.send(train(train_epoch, pipe.recv()))

"""Killed, interrupted, starved and locked out: is the run resumed to the same bits?"""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jaxrl_runs.run_folder import RunFolder, RunFolderError

_NOBODY = 65534


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        fault: What was done.
        tried: How often.
        found: What came of it.
        passed: Whether that is what should.
    """

    fault: str
    tried: int
    found: str
    passed: bool


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code, negative for a signal.
        digest: What it printed, None if it did not get so far.
        errors: Its standard error.
        seconds: From "started" to the end.
    """

    code: int
    digest: str | None
    errors: str
    seconds: float


def run(
    name: str,
    out: Path,
    *options: str,
    send: signal.Signals | None = None,
    at: float = 0,
) -> Ended:
    """Runs a program of `benchmarks.faults.programs`.

    Args:
        name: Which.
        out: Its folder.
        *options: Others on its command line.
        send: A signal to send.
        at: Seconds after "started" when it is sent.
    """
    command = [sys.executable, "-m", "benchmarks.faults.programs", name, str(out)]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(out.parent / "cache")}
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | cache,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        started = time.monotonic()
        if send is not None and first:
            try:
                process.wait(at)
            except subprocess.TimeoutExpired:
                process.send_signal(send)
        printed, errors = process.communicate()
    words = printed.split()
    digest = words[1] if words[:1] == ["digest"] else None
    return Ended(process.returncode, digest, errors, time.monotonic() - started)


def kills(name: str, folder: Path, number: int, seed: int = 0) -> Iterator[Row]:
    """`kill -9` at random moments; each time the run is resumed, to be killed again."""
    draw = random.Random(seed)
    run(name, folder / "first")  # which compiles
    whole = run(name, folder / "whole")
    if whole.digest is None:
        yield Row(f"kill -9, {name}", 0, whole.errors.strip(), False)
        return
    killed = finished = same = late = 0
    errors = []
    out = folder / "killed"
    while killed < number:
        at = draw.uniform(0, whole.seconds)
        ended = run(name, out, send=signal.SIGKILL, at=at)
        killed += ended.code == -signal.SIGKILL
        if ended.code not in (0, -signal.SIGKILL):
            errors.append(ended.errors.strip().splitlines()[-1:])
            break
        if ended.digest is not None or killed == number:
            ended = run(name, out) if ended.digest is None else ended
            finished += 1
            same += ended.digest == whole.digest
            late += bool(ended.code)
            shutil.rmtree(out)
    found = f"{killed} resumed, {finished} runs finished, {same} with the same bits"
    yield Row(
        f"kill -9, {name}", killed, found + str(errors or ""), same == finished > 0
    )


def interrupts(name: str, folder: Path) -> Iterator[Row]:
    """Ctrl-C in the middle: a line, exit code 130, a folder that is resumed."""
    run(name, folder / "compiles")  # The next one finds its programs compiled.
    whole = run(name, folder / "whole_again")
    out = folder / "interrupted"
    ended = run(name, out, send=signal.SIGINT, at=whole.seconds / 2)
    said = ended.errors.strip().splitlines()[-1:] or ["nothing"]
    resumed = run(name, out)
    same = resumed.digest == whole.digest is not None
    yield Row(
        f"SIGINT, {name}",
        1,
        f"code {ended.code}, {said[0]!r}, then the same bits: {_yes(same)}",
        ended.code == 130 and same and "Traceback" not in ended.errors,
    )


def disks(name: str, folder: Path) -> Iterator[Row]:
    """Files that cannot grow, a folder that cannot be written, one that is locked."""
    whole = run(name, folder / "whole_thrice")
    out = folder / "full"
    out.mkdir()
    full = run(name, out, "--file-limit", "1500")
    resumed = run(name, out)
    same = resumed.digest == whole.digest is not None
    yield Row(
        f"full disk, {name}",
        1,
        f"code {full.code}, {_last(full, out)!r}, then the same bits: {_yes(same)}",
        full.code == 2 and same and "Traceback" not in full.errors,
    )
    if os.geteuid() != 0:
        return
    with _for_everyone(folder):
        out = folder / "read_only"
        out.mkdir()
        out.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        ended = run(name, out, "--user", str(_NOBODY))
    yield Row(
        f"read-only folder, {name}",
        1,
        f"code {ended.code}, {_last(ended, out)!r}",
        ended.code == 2 and "Traceback" not in ended.errors,
    )


def locked(folder: Path) -> Iterator[Row]:
    """A second process in the folder of a run."""
    with RunFolder(folder / "evolving", {}):
        ended = run("evolution", folder / "evolving")
    said = _last(ended, folder / "evolving")
    yield Row(
        "two processes in one run folder", 1, f"code {ended.code}, {said!r}",
        ended.code == 2 and "another process" in said,
    )  # fmt: skip
    try:
        RunFolder(folder / "evolving", {})
    except RunFolderError as error:
        assert "already holds a run" in str(error), error


@contextmanager
def _for_everyone(folder: Path) -> Iterator[None]:
    """Lets other users look into temporary folders."""
    before = folder.stat().st_mode
    folder.chmod(0o755)
    try:
        yield
    finally:
        folder.chmod(before)


def _last(ended: Ended, out: Path) -> str:
    lines = [x for x in ended.errors.strip().splitlines() if "arning" not in x]
    return (lines or ["nothing"])[-1].replace(str(out), "DIR")


def _yes(value: bool) -> str:
    return "yes" if value else "NO"

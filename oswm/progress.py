"""Says on stderr what takes long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SECONDS_BEFORE_WORDS = 3.0


@contextmanager
def told(text: str, progress: bool | None) -> Iterator[None]:
    """Says on stderr what is going on, and then how long it took.

    Args:
        text: What.
        progress: Whether to say it; None says it in a terminal or a notebook at once,
            in a script where it takes longer than three seconds.
    """
    if progress is False:
        yield
        return
    is_watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    seconds = 0.0 if progress or is_watched else _SECONDS_BEFORE_WORDS
    is_said = threading.Event()

    def say() -> None:
        is_said.set()
        sys.stderr.write(f"{text} (the first of its kind compiles) ... ")
        sys.stderr.flush()

    started, later = time.monotonic(), threading.Timer(seconds, say)
    later.daemon = True
    later.start() if seconds else say()
    try:
        yield
    finally:
        later.cancel()
        if is_said.is_set():
            sys.stderr.write(f"{time.monotonic() - started:.1f} s\n")

"""Shared test settings: two CPU devices, XLA flags, one compile cache per run."""

from __future__ import annotations

import atexit
import collections
import functools
import gc
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Importing and tracing make objects by the million, of which few are garbage; a tenth
# of the suite's time went into looking for it.
gc.set_threshold(50_000, 20, 20)

# Where the shell forbids bytecode, every process that a test starts would compile
# all it imports: 11 seconds instead of 3.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
# Compilation dominates these tests. Unoptimised programs are as correct, and without
# the fusion emitters they compile in a third of the time. jaxlib 0.10 knows that flag;
# XLA aborts on flags that it does not know.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "")
        + " --xla_backend_optimization_level=0"
        + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10.")
    )

# Shared by this run's workers and by the processes that tests start, and thrown away:
# XLA compiles for the CPU at hand, and the cache's keys do not name the CPU.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.mkdtemp(prefix="jaxrl-se-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
# Even of the smallest programs: to read one takes a third of the time to compile it,
# and there are ten thousand.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

from benchmarks.launch import SMALL_PROGRAMS, configure

# XLA reads flags once. Commands that tests start add these: were they missing here,
# programs of the two processes would differ in their last bits.
configure(SMALL_PROGRAMS)

import jax
import pytest
from jax._src.interpreters import mlir

# One MLIR context for all programs. Each has its own otherwise, with 2 MB of dialects:
# 360 tiny programs took 10.2 CPU-seconds and 960 MB with those, 7.2 and 310 without.
if hasattr(mlir, "make_ir_context"):
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)
    # Its dialects are loaded here, and not by two threads that compile at once.
    jax.jit(lambda x: x + 1)(1)

# What takes longest: begun last, it would keep one worker while the other is idle.
_FIRST = ("test_guides.py", "test_notebooks.py", "oswm", "benchmarks")
_MEMORY = 3e9  # bytes of a worker above which its compiled programs are let go


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files for workers, which take a file at a time and compile once for it."""

    def place(item: pytest.Item) -> int:
        parts = item.path.relative_to(item.config.rootpath).parts
        return next((i for i, x in enumerate(_FIRST) if x in parts), len(_FIRST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Between files, let go of programs that no other test will ask for."""
    if nextitem and nextitem.path != item.path and _resident_bytes() > _MEMORY:
        jax.clear_caches()
        gc.collect()


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped, and why, in one line per reason."""
    reasons = collections.Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section(f"{sum(reasons.values())} tests were skipped")
        for reason, number in reasons.most_common():
            terminalreporter.line(f"{number:>4}  {reason}")


@pytest.fixture
def key() -> jax.Array:
    """A typed PRNG key, the same in every test."""
    return jax.random.key(0)

"""What commands share: compilation cache, choice of devices, exit codes."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import jax
from jax.sharding import Mesh

from jaxrl_runs.commands import run_command
from jaxrl_runs.devices import population_mesh


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, apart for each kind of CPU.

    XLA compiles for the CPU at hand and jax's cache keys do not name it: on a home that
    machines share, a program of another CPU differs in its last bits or crashes.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "jaxrl_se" / f"{platform.machine()}-{_cpu_digest()}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _cpu_digest() -> str:
    """Eight characters that stand for the CPU's model and features."""
    cpuinfo = Path("/proc/cpuinfo")
    text = platform.processor()
    if cpuinfo.exists():
        first = cpuinfo.read_text().split("\n\n")[0].splitlines()
        kept = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")
        text = "\n".join(line for line in first if line.startswith(kept))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def mesh_that_divides(population_size: int) -> Mesh:
    """As many local devices as divide a population."""
    devices = jax.local_devices()
    sizes = range(1, len(devices) + 1)
    return population_mesh(devices[: max(n for n in sizes if population_size % n == 0)])


def run(main: Callable[[], object]) -> None:
    """Runs a command; what a user can mend is one line on stderr, not a traceback."""
    warnings.showwarning = _show_warning
    run_command(main)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line on stderr, without the line of code; see `warnings.showwarning`."""
    del filename, lineno, file, line
    kind = category.__name__.removeprefix("User").lower()
    print(f"{kind}: {message}", file=sys.stderr)

"""Starts a command: sets up XLA first, and only then imports what imports JAX.

Every entry (`benchmarks/NAME.py`, or `benchmarks/NAME/__main__.py`) calls `launch` with
the module that holds its `main` and one of the profiles below. XLA reads its settings
once, when JAX starts its backend, which importing gymnax does; so nothing here imports
JAX. What the environment already sets wins.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True)
class Profile:
    """How XLA compiles for the CPU and how many devices it offers.

    Attributes:
        flags: XLA's flags.
        single_device: One CPU device with one thread, instead of one device per core.
    """

    flags: tuple[str, ...]
    single_device: bool = False


_IS_NEW = tuple(map(int, version("jaxlib").split(".")[:2])) >= (0, 10)
# One thread per device. Level 1 without expensive passes and in one piece compiles a
# third faster, and programs of tiny operations run as fast. In one piece, jaxlib 0.6
# refuses large programs ("Too many extra compilation parts").
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
SMALL_PROGRAMS = Profile(
    (
        _ONE_THREAD,
        "--xla_backend_optimization_level=1",
        "--xla_llvm_disable_expensive_passes=true",
        *["--xla_cpu_parallel_codegen_split_count=1"] * _IS_NEW,
    )
)
# Without a population to share among devices, a second thread would only share
# operations that are too small for it: training takes 37 seconds instead of 22.
ONE_PROGRAM = Profile(SMALL_PROGRAMS.flags, single_device=True)
# Minibatches of 199 in runs of hours: wide registers give a tenth.
LONG_RUNS = Profile((_ONE_THREAD, "--xla_cpu_prefer_vector_width=512"))

# Programs compile in half the time without it, and run up to twice as long: right for
# a quick run only. XLA aborts on flags that a version does not know.
_NO_FUSION_EMITTERS = "--xla_cpu_use_fusion_emitters=false"


def configure(profile: Profile, *, quick: bool = False) -> None:
    """Sets a profile in the environment of this process, before JAX starts.

    Args:
        profile: The settings.
        quick: Compile fast, run slower.
    """
    os.environ.setdefault(
        "JAX_NUM_CPU_DEVICES", "1" if profile.single_device else str(_num_cores())
    )
    if profile.single_device:
        os.environ.setdefault("NPROC", "1")  # XLA's threads, of which one per device
    flags = profile.flags
    if quick and version("jaxlib").startswith("0.10."):
        flags = (*flags, _NO_FUSION_EMITTERS)
    for flag in flags:
        if flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
            before = os.environ.get("XLA_FLAGS", "")
            os.environ["XLA_FLAGS"] = f"{before} {flag}".strip()


def launch(module: str, profile: Profile) -> None:
    """Runs the `main` of a module under a profile.

    Args:
        module: Its full name.
        profile: XLA's settings.
    """
    configure(profile, quick="--quick" in sys.argv)
    main = importlib.import_module(module).main
    importlib.import_module("benchmarks.shared.runtime").run(main)


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return 1

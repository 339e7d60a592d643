"""How XLA compiles programs that take longer to compile than to run."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

# Steps of training up to which a thorough compilation takes longer than it saves: it
# takes 3 to 7 CPU-seconds more, and takes off 10 to 80 microseconds a step.
_QUICK_STEPS = 20_000


def quick_options(level: int = 1, *, side_by_side: bool = False) -> dict[str, Any]:
    """Compiler options with which CPU programs compile fast and run slower.

    A program in which agents train takes a fifth of the time to compile, and up to
    twice as long to run. On other backends, and where `XLA_FLAGS` says otherwise, there
    is nothing to change.

    Args:
      level: Of XLA's optimisations, 0 to 3.
      side_by_side: Whether several programs are compiled at once, so that each is
        compiled in one piece and not in many, which takes an eighth less in all.

    Returns:
      For `compiler_options` of `jax.jit`, or `compile` of what was lowered.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, Any] = {
        "xla_backend_optimization_level": level,
        "xla_llvm_disable_expensive_passes": True,
    }
    if side_by_side:
        options["xla_cpu_parallel_codegen_split_count"] = 1
        options["xla_cpu_prefer_vector_width"] = 128  # Wider ones take longer, too.
    if version("jaxlib").startswith("0.10."):  # Others may not know it.
        options["xla_cpu_use_fusion_emitters"] = False
    given = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in given}


def fits_steps(program: Any, num_steps: int) -> Callable[..., Any]:
    """A program by `quick_jit`, compiled as it is worth for so many training steps.

    Args:
      program: What `quick_jit` gave.
      num_steps: Of all agents together.
    """
    return program if num_steps <= _QUICK_STEPS else program.thorough


def quick_jit(function: Callable[..., Any], **static: Any) -> Callable[..., Any]:
    """`jax.jit` for a program that runs for seconds at most, by `quick_options`.

    Where it is called inside of another program it becomes a part of that one. Playing
    and testing compile in a third of the time and run as fast.

    Args:
      function: Pure.
      **static: `static_argnames` or `static_argnums` of `jax.jit`.

    Returns:
      The compiled function; its `thorough` is the same by `jax.jit` as it is, for
      calls that run for long.
    """
    thorough = jax.jit(function, **static)

    @functools.cache
    def quick() -> Any:  # Later: the options start the backend.
        return jax.jit(function, **static, compiler_options=quick_options())

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves = jax.tree.leaves((args, kwargs, jnp.zeros(())))
        is_inside = any(isinstance(leaf, Tracer) for leaf in leaves)
        return (thorough if is_inside else quick())(*args, **kwargs)

    call.thorough = thorough  # type: ignore[attr-defined]
    return call

"""Policies for elsewhere: one function of observations, as StableHLO in a file.

StableHLO by `jax.export`, not ONNX: it is what XLA itself compiles, so what runs
elsewhere is what was tested here, to the bit on the same backend, with no converter in
between that knows some operations and not others. jax promises to read files for six
months after they were written, and runs them on CPUs, GPUs and TPUs. Converters to ONNX
cover a part of jax's operations only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from envs.spaces import Spaces
from jaxrl_runs.values import PATH, shown
from jaxrl_se.agent_files import observation_struct, policy_and_spaces
from jaxrl_se.policies import with_memory

PLATFORMS = ("cpu", "cuda", "tpu")


def policy_function(policy: Any) -> Callable[..., Any]:
    """A policy as a pure function of arrays alone, its weights inside.

    Args:
      policy: A single policy that needs no random numbers.

    Returns:
      `obs -> action`; for a policy that remembers `(memory, obs) -> (action, memory)`,
      whose first memory is `policy.start()`.
    """
    if not hasattr(policy, "start"):
        return lambda obs: policy(obs, None)
    _, step = with_memory(policy)
    return lambda memory, obs: step(memory, obs, None)


def export_policy(path: str | Path, policy: Any, spaces: Spaces | None = None) -> Path:
    """Writes a policy as a function of a batch, to run without this package.

    A reader needs `jax` alone:

        function = jax.export.deserialize(path.read_bytes())
        actions = function.call(obs)  # [B, *obs_shape], in the task's dtype

    Of a policy that remembers the function is `(memory, obs) -> (actions, memory)`,
    with arrays `[B, ...]`, and a memory of zeros at the start of an episode.

    Args:
      path: The file to write.
      policy: A single policy, or what `train` or `load_agent` gave.
      spaces: The task's spaces, needed for a policy alone that does not hold them.

    Returns:
      The path written.

    Raises:
      ValueError: The policy needs random numbers, or spaces are missing.
    """
    PATH.check("path", path)
    if isinstance(policy, type):
        raise TypeError(f"policy must be a policy, got {shown(policy)}")
    policy, spaces = policy_and_spaces(policy, spaces, "policy")
    (size,) = export.symbolic_shape("batch")
    arguments: list[Any] = [observation_struct(spaces, size)]
    if hasattr(policy, "start"):
        memory = jax.eval_shape(policy.start)
        arguments.insert(
            0,
            jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), memory
            ),
        )
    function = jax.jit(jax.vmap(policy_function(policy)))
    try:
        exported = export.export(function, platforms=PLATFORMS)(*arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "policy must be one policy that needs no random numbers, got "
            f"{type(policy).__name__} ({str(error).splitlines()[0]})"
        ) from error
    path = Path(path)
    path.write_bytes(exported.serialize())
    return path

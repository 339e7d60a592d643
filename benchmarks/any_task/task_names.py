"""Tasks by what a command line can say: a registered name, or `module:function`."""

from __future__ import annotations

import importlib
from typing import Any

import envs


def task_of(text: str) -> tuple[Any, Any]:
    """Makes a task.

    Args:
      text: A name for `envs.make`, or `module:function` with a function without
        arguments that returns a gymnax pair `(env, params)`.

    Raises:
      ValueError: There is no such task, module or function, or it returns no pair.
    """
    if ":" not in text:
        return envs.make(text)
    module_name, _, function_name = text.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--task: {text!r} cannot be imported ({error})") from error
    task = function()
    if not (isinstance(task, tuple) and len(task) == 2):
        raise ValueError(
            f"--task: {text!r} must return a pair (env, params), got {task}"
        )
    return task


def module_of(text: str) -> Any:
    """The module that a task comes from, None for a registered name."""
    return importlib.import_module(text.partition(":")[0]) if ":" in text else None

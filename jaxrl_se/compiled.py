"""Compiled functions of a generation, shared by equal evolutions of one process."""

from __future__ import annotations

import json
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax

from jaxrl_runs.describe import describe
from jaxrl_se.generation import Generation

_MAX_COMPILED = 8
_compiled: OrderedDict[Any, Any] = OrderedDict()


def compile_together(program: Generation, wanted: list[tuple[str, tuple]]) -> list:
    """Compiles some of a program's functions, or takes them from an equal program.

    XLA compiles outside the GIL: two functions take the time of the longer one.

    Args:
      program: The functions' owner.
      wanted: "step" or "validate N", and arguments to compile it for.

    Returns:
      The compiled functions.
    """
    keys = [(name, program, *_signature(program, args)) for name, args in wanted]
    lowered = {}
    for index, (key, (name, arguments)) in enumerate(zip(keys, wanted, strict=True)):
        if _find(key) is None:
            method, *place = name.split()
            options = {"algorithm": int(place[0])} if place else {}
            function = partial(getattr(program, method), **options)
            lowered[index] = jax.jit(function).lower(*arguments)
    with ThreadPoolExecutor(max(len(lowered), 1)) as pool:
        made = pool.map(lambda one: one.compile(), lowered.values())
        found = dict(zip(lowered, made, strict=True))
    found |= {i: _find(key) for i, key in enumerate(keys) if i not in found}
    for index, key in enumerate(keys):
        _keep(key, found[index])
    return [found[index] for index in range(len(keys))]


def _signature(program: Generation, arguments: tuple) -> tuple:
    """What tells two compilations apart beside the program itself."""
    leaves, structure = jax.tree.flatten(arguments)
    types = [jax.api_util.shaped_abstractify(leaf) for leaf in leaves]
    # 1 == 1.0 == True, but not in a compiled program.
    return structure, tuple(map(repr, types)), json.dumps(describe(program.config))


def _find(key: Any) -> Any:
    try:
        return _compiled.get(key)
    except TypeError:  # a user's agent or environment that cannot be hashed
        return None


def _keep(key: Any, compiled: Any) -> None:
    try:
        _compiled[key] = compiled
        _compiled.move_to_end(key)
    except TypeError:
        return
    while len(_compiled) > _MAX_COMPILED:
        _compiled.popitem(last=False)

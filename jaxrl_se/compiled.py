"""Compiled functions of a generation, shared by equal evolutions of one process."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax

from jaxrl_runs.compilation import quick_options
from jaxrl_runs.describe import describe
from jaxrl_se.generation import Generation

_MAX_COMPILED = 8
# Settings that are read between the calls of a program, and no part of it.
_BETWEEN: dict[str, Any] = {
    "patience": None,
    "restarts": 0,
    "restart_std": 1.0,
    "stop_return": None,
    "validation_every": 1,
}
_OF_VALIDATIONS = {"validation_agents": 1, "validation_episodes": 1}
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
    keys = [(*_key(name, program), *_signature(args)) for name, args in wanted]
    lowered: dict[int, Any] = {}
    for index, (key, (name, arguments)) in enumerate(zip(keys, wanted, strict=True)):
        if _find(key) is None:
            method, *place = name.split()
            options = {"algorithm": int(place[0])} if place else {}
            function = partial(getattr(program, method), **options)
            lowered[index] = jax.jit(function).lower(*arguments)

    def compiled(index: int) -> Any:
        # Validations run now and then, a step in every generation; in a world model
        # it runs no slower, since its matrix products are a library's.
        runs_often = wanted[index][0] == "step" and program.kind != "model"
        return lowered[index].compile(None if runs_often else quick_options())

    with ThreadPoolExecutor(max(len(lowered), 1)) as pool:
        made = pool.map(compiled, lowered)
        found = dict(zip(lowered, made, strict=True))
    found |= {i: _find(key) for i, key in enumerate(keys) if i not in found}
    for index, key in enumerate(keys):
        _keep(key, found[index])
    return [found[index] for index in range(len(keys))]


def shared(name: str, program: Generation, make: Callable[[], Any]) -> Any:
    """What `make` gives, made once for equal programs.

    Args:
      name: What it is; "step" for what is not asked about validations.
      program: Of which it is a part.
      make: Makes it.

    Returns:
      What it made, now or before.
    """
    key = _key(name, program)
    found = _find(key)
    found = make() if found is None else found
    _keep(key, found)
    return found


def _key(name: str, program: Generation) -> tuple:
    """What tells one function of a program from others, whatever it is called with."""
    config, changes = program.config, dict(_BETWEEN)
    if config.algorithms != "stages":  # they leave out whose turn never comes
        changes["max_generations"] = 1
    if name == "step":
        changes |= _OF_VALIDATIONS
    config = config.replace(**changes)
    program = dataclasses.replace(program, config=config)
    # 1 == 1.0 == True, but not in a compiled program.
    return name, program, json.dumps(describe(config))


def _signature(arguments: tuple) -> tuple:
    """What tells two compilations of one function apart."""
    leaves, structure = jax.tree.flatten(arguments)
    types = [jax.api_util.shaped_abstractify(leaf) for leaf in leaves]
    return structure, tuple(map(repr, types))


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

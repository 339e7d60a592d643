"""What something is, as JSON: the identity of a run, the text of a card.

Two descriptions are equal where two things are the same kind of thing with the same
settings: class names are part of them, which `dataclasses.asdict` loses, and arrays
stand there by their digest.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

_MAX_DEPTH = 32


def describe(thing: Any) -> Any:
    """Describes numbers, texts, containers, arrays, functions and objects.

    Args:
      thing: For instance a configuration with agents, networks and environments in it.

    Returns:
      What JSON can hold: a dataclass or another object as a dictionary of its class
      and fields (of any object: its attributes), an array as its shape, dtype and
      SHA-256, a function or class as its qualified name, an infinite number as text.

    Raises:
      ValueError: The thing contains itself.
    """
    return _describe(thing, 0)


def _describe(thing: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError(
            f"thing must not be nested deeper than {_MAX_DEPTH}, got a "
            f"{type(thing).__name__} inside of itself or of many others"
        )
    inner = functools.partial(_describe, depth=depth + 1)
    if thing is None or isinstance(thing, bool | str):
        return thing
    if isinstance(thing, int | float | np.number | np.bool_):
        return _number(thing)
    if isinstance(thing, jax.Array | np.ndarray):
        return _array(thing)
    if isinstance(thing, Path | np.dtype):
        return str(thing)
    if isinstance(thing, Mapping):
        return {str(key): inner(value) for key, value in thing.items()}
    if isinstance(thing, frozenset | set):
        return sorted((inner(item) for item in thing), key=repr)
    if isinstance(thing, tuple | list):
        return [inner(item) for item in thing]
    if isinstance(thing, functools.partial):
        parts = {"args": inner(thing.args), "keywords": inner(thing.keywords)}
        return {"partial": inner(thing.func)} | parts
    if isinstance(thing, type) or hasattr(thing, "__qualname__"):
        return _name(thing)
    if dataclasses.is_dataclass(thing):
        names = [field.name for field in dataclasses.fields(thing)]
        fields = {name: inner(getattr(thing, name)) for name in names}
    else:
        fields = {name: inner(value) for name, value in _attributes(thing).items()}
    return {"class": _name(type(thing))} | fields


def _number(number: Any) -> Any:
    """A Python number; JSON has no infinity and no NaN."""
    number = number.item() if isinstance(number, np.generic) else number
    is_finite = not isinstance(number, float) or math.isfinite(number)
    return number if is_finite else str(number)


def _array(array: Any) -> dict[str, Any]:
    is_key = jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key)
    if is_key:
        array = jax.random.key_data(array)
    array = np.ascontiguousarray(array)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
    }


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _attributes(thing: Any) -> dict[str, Any]:
    """Attributes of an object, without what it has cached."""
    found = dict(getattr(thing, "__dict__", {}))
    cached = {
        name
        for name in found
        if isinstance(getattr(type(thing), name, None), functools.cached_property)
    }
    return {name: value for name, value in found.items() if name not in cached}

"""Policies as JSON and arrays, and back: classes are looked up by name, never imported.

What a file says can make objects of the classes in `_CLASSES` and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from envs.spaces import Spaces
from jaxrl_se.agents.observations import (
    NormalizedPolicy,
    NormalizedRememberingPolicy,
    ObsStatistics,
)
from jaxrl_se.agents.tabular import Table
from jaxrl_se.flat_policies import FlatPolicy
from jaxrl_se.networks import MLP, DuelingMLP
from jaxrl_se.policies import (
    DeterministicPolicy,
    GreedyPolicy,
    MeanPolicy,
    RandomPolicy,
    SampledPolicy,
)
from jaxrl_se.recurrent import RecurrentNetwork, RememberingPolicy
from jaxrl_se.torsos import CNN, FlatNetwork, TorsoNetwork

_CLASSES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        CNN,
        DeterministicPolicy,
        DuelingMLP,
        FlatNetwork,
        FlatPolicy,
        GreedyPolicy,
        MLP,
        MeanPolicy,
        NormalizedPolicy,
        NormalizedRememberingPolicy,
        ObsStatistics,
        RandomPolicy,
        RecurrentNetwork,
        RememberingPolicy,
        SampledPolicy,
        Spaces,
        Table,
        TorsoNetwork,
    )
}
_MODULE = "flax module"
_MAX_DEPTH = 32


def is_known(thing: Any) -> bool:
    """Whether it is of a class that a file can name."""
    return type(thing) is _CLASSES.get(type(thing).__name__)


def encode(thing: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Describes a policy as what JSON can hold.

    Args:
      thing: A policy, or a part of one.
      arrays: Where its arrays go, by names that the description refers to.

    Raises:
      ValueError: It holds something that no file can bring back.
    """
    if thing is None or isinstance(thing, bool | str | int | float):
        return thing
    if isinstance(thing, jax.Array | np.ndarray | np.generic):
        name = f"array {len(arrays)}"
        arrays[name] = np.asarray(thing)
        return {"array": name}
    if isinstance(thing, tuple | list):
        return {type(thing).__name__: [encode(item, arrays) for item in thing]}
    if isinstance(thing, Mapping):
        return {"dict": {str(k): encode(v, arrays) for k, v in thing.items()}}
    name = type(thing).__name__
    if is_known(thing):
        return {"class": name, "fields": _fields(thing, arrays)}
    if isinstance(thing, nn.Module):
        return {_MODULE: name}
    raise ValueError(
        f"trained must be made of policies and networks of this package, got a {name}, "
        "which a file could not bring back without running code of its own"
    )


def _fields(thing: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields of a dataclass, without those that flax adds to its modules."""
    names = [field.name for field in dataclasses.fields(thing) if field.init]
    if isinstance(thing, nn.Module):
        names = [name for name in names if name not in ("parent", "name")]
    return {name: encode(getattr(thing, name), arrays) for name in names}


def decode(
    text: Any, arrays: Mapping[str, np.ndarray], network: Any = None, depth: int = 0
) -> Any:
    """The inverse of `encode`.

    Args:
      text: A description.
      arrays: The arrays that it refers to.
      network: The user's own flax module, for a policy that was saved with one.
      depth: How deep in the description this is.

    Raises:
      ValueError: The description is no policy's, or it needs a network.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH}")
    if text is None or isinstance(text, bool | str | int | float):
        return text
    if not isinstance(text, dict) or len(text) not in (1, 2):
        raise ValueError(f"it describes no part of a policy: {str(text)[:80]}")

    def inner(part):
        return decode(part, arrays, network, depth + 1)

    kind = next(iter(text))
    if kind == "array":
        return jnp.asarray(arrays[text[kind]])
    if kind in ("tuple", "list"):
        items = [inner(item) for item in text[kind]]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return {key: inner(value) for key, value in text[kind].items()}
    if kind == _MODULE:
        return _own_module(network, str(text[kind]))
    if kind != "class" or text[kind] not in _CLASSES:
        raise ValueError(f"it names the unknown class {text.get(kind)!r}")
    fields = {key: inner(value) for key, value in text["fields"].items()}
    return _CLASSES[text[kind]](**fields)


class NetworkMissingError(ValueError):
    """A policy was saved with a network of the user's own, which has to be given."""


def _own_module(network: Any, name: str) -> nn.Module:
    if type(network).__name__ != name or not isinstance(network, nn.Module):
        raise NetworkMissingError(
            f"network must be the flax module {name} that the agent was trained with, "
            f"got {network!r}"
        )
    return network

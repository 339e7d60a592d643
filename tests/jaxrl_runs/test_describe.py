"""Descriptions: what is equal, what differs, and that JSON can hold it."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl_runs.describe import describe


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int = 3


@dataclasses.dataclass(frozen=True)
class SameFields:
    size: int = 3


@struct.dataclass
class Outer:
    rate: float
    inner: object
    table: object = None


class Plain:
    def __init__(self, value):
        self.value = value

    @functools.cached_property
    def seen(self):
        return 1


def test_class_names_are_part_of_it():
    one, other = describe(Outer(0.1, Inner())), describe(Outer(0.1, SameFields()))
    assert one != other and one["inner"]["size"] == other["inner"]["size"] == 3
    assert one["inner"]["class"].endswith("test_describe.Inner")
    assert describe(Outer(0.1, Inner())) == one
    assert describe(Plain(1)) != describe(Plain(2))


def test_arrays_by_digest_keys_too():
    zeros, ones = (describe(Outer(0.1, None, f(3))) for f in (np.zeros, np.ones))
    assert zeros != ones and zeros["table"]["shape"] == [3]
    assert describe(jnp.zeros(3)) == describe(np.zeros(3, np.float32))
    assert describe(np.zeros(3, np.int32)) != describe(np.zeros(3, np.float32))
    assert describe(jax.random.key(0)) != describe(jax.random.key(1))


def test_json_can_hold_everything():
    things = {
        "numbers": (1, 1.5, True, None, np.float32(0.5), np.int64(3), float("inf")),
        "functions": [jnp.tanh, functools.partial(describe, thing=Inner())],
        "kind": Inner,
        Path("a"): {3, 1, 2},
        "dtype": np.dtype("int32"),
    }
    text = json.dumps(describe(things), allow_nan=False)
    assert json.loads(text) == describe(things)
    assert describe(1) is not True and describe(float("nan")) == "nan"


def test_caches_do_not_count():
    one, other = Plain(1), Plain(1)
    assert one.seen and describe(one) == describe(other)


def test_what_holds_itself_is_named():
    thing = Plain(None)
    vars(thing).update(value=thing)
    with pytest.raises(ValueError, match=r"thing must not be nested .* a Plain"):
        describe(thing)

"""What a setting may be, said once, beside the setting.

A field of a dataclass is declared with its default and a rule:

    learning_rate: float = traced(1e-3, POSITIVE)
    batch_size: int = static(32, COUNT)

`check(obj)` then compares every such field with its rule, while it is still a number of
Python or NumPy: inside a jitted program nothing is looked at. Arguments of functions
are checked by the rules themselves: `COUNT.check("num_steps", num_steps)`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import numbers
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import struct
from jax.core import Tracer

_RULE = "rule"
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite real number, also as an array of no axes.

    Attributes:
      above: It must be larger than this.
      at_least: It must not be smaller than this.
      below: It must be smaller than this.
      at_most: It must not be larger than this.
      whole: Whether only whole numbers are taken; 100.0 is one.
      optional: Whether None is taken.
      infinite: Whether infinity is taken.
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    whole: bool = False
    optional: bool = False
    infinite: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        bounds = [
            f"{words} {bound:g}"
            for words, bound in (
                ("above", self.above),
                ("of at least", self.at_least),
                ("below", self.below),
                ("of at most", self.at_most),
            )
            if bound is not None and math.isfinite(bound)
        ]
        text = " ".join([kind, " and ".join(bounds)]).strip()
        return f"{text} or None" if self.optional else text

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        if isinstance(value, Tracer) or (value is None and self.optional):
            return
        if not self._holds(value):
            raise ValueError(f"{name} must be {self}, got {shown(value)}")

    def _holds(self, value: Any) -> bool:
        number = _number(value)
        if number is None:
            return False
        is_infinite = self.infinite and math.isinf(number)
        if math.isnan(number) or (abs(number) > _LARGEST and not is_infinite):
            return False
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
            and (not self.whole or number == round(number))
        )


@dataclasses.dataclass(frozen=True)
class Integer:
    """One integer, of Python or NumPy; it fixes a shape or a number of repeats.

    Attributes:
      at_least: The smallest one.
      at_most: The largest one; by default what an int32 holds.
      optional: Whether None is taken.
    """

    at_least: int = 1
    at_most: int = 2**31 - 1
    optional: bool = False

    def __str__(self) -> str:
        text = f"an integer of at least {self.at_least}"
        return f"{text} or None" if self.optional else text

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        if value is None and self.optional:
            return
        if (
            not isinstance(value, int | np.integer)
            or isinstance(value, bool)
            or not self.at_least <= value <= self.at_most
        ):
            is_too_large = isinstance(value, int) and value > self.at_most
            most = f" and at most {self.at_most}" * is_too_large
            raise ValueError(f"{name} must be {self}{most}, got {shown(value)}")


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False; of a traced field also a boolean array of no axes.

    Attributes:
      optional: Whether None is taken.
    """

    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        if isinstance(value, Tracer | bool | np.bool_):
            return
        if value is None and self.optional:
            return
        is_array = isinstance(value, np.ndarray | jax.Array)
        if not (is_array and value.dtype == bool and value.shape == ()):
            kinds = "True, False or None" if self.optional else "True or False"
            raise ValueError(f"{name} must be {kinds}, got {shown(value)}")


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of several names.

    Attributes:
      names: The names, or a function that gives them.
      optional: Whether None is taken.
    """

    names: Sequence[str] | Callable[[], Sequence[str]]
    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        names = list(self.names() if callable(self.names) else self.names)
        if (isinstance(value, str) and value in names) or (
            value is None and self.optional
        ):
            return
        close = difflib.get_close_matches(str(value).lower(), names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, names))}, got "
            f"{shown(value)}{hint}"
        )


@dataclasses.dataclass(frozen=True)
class TupleOf:
    """A tuple, which can be hashed, whose items all keep one rule.

    Attributes:
      rule: The items' rule.
      min_size: The fewest items.
    """

    rule: Rule
    min_size: int = 0

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        if not isinstance(value, tuple) or len(value) < self.min_size:
            least = f" of at least {self.min_size} items" * (self.min_size > 0)
            kind = "a list " if isinstance(value, list) else ""
            raise ValueError(f"{name} must be a tuple{least}, got {kind}{shown(value)}")
        for index, item in enumerate(value):
            self.rule.check(f"{name}[{index}]", item)


@dataclasses.dataclass(frozen=True)
class Like:
    """An object that has certain methods, or is of a class.

    A class in the place of its instance is told apart: forgotten parentheses.

    Attributes:
      what: What it is, for the message: "an agent, such as DDQN()".
      methods: Names that it must have.
      kinds: Classes, one of which it must be an instance of; none to look at its
        methods alone.
      optional: Whether None is taken.
    """

    what: str
    methods: tuple[str, ...] = ()
    kinds: tuple[type, ...] = ()
    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises TypeError, naming the argument, if the value breaks the rule."""
        if value is None and self.optional:
            return
        is_class = isinstance(value, type)
        fits = all(hasattr(value, method) for method in self.methods)
        if fits and not is_class and (not self.kinds or isinstance(value, self.kinds)):
            return
        what = f"{self.what} or None" if self.optional else self.what
        found = shown(value)
        if is_class and (fits or issubclass(value, self.kinds)):
            found = f"the class {value.__name__}; write {value.__name__}(...)"
        raise TypeError(f"{name} must be {what}, got {found}")


@dataclasses.dataclass(frozen=True)
class Function:
    """Something that can be called.

    Attributes:
      signature: How it is called, for the message: "(row) -> None".
      optional: Whether None is taken.
    """

    signature: str
    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises TypeError, naming the argument, if the value breaks the rule."""
        if value is None and self.optional:
            return
        what = f"a function {self.signature}" + " or None" * self.optional
        if not callable(value):
            raise TypeError(f"{name} must be {what}, got {shown(value)}")
        takes = self._other_arguments(value)
        if takes is not None:
            raise TypeError(f"{name} must be {what}, got one that takes {takes}")

    def _other_arguments(self, value: Any) -> str | None:
        """What it takes, where that is not what the signature says."""
        named = re.match(r"\(([\w, ]*)\)", self.signature)
        try:
            takes = inspect.signature(value)
        except (TypeError, ValueError):  # It does not say.
            return None
        if named is None:
            return None
        count = len([each for each in named[1].split(",") if each.strip()])
        try:
            takes.bind(*[None] * count)
        except TypeError:
            return str(takes)
        return None


@dataclasses.dataclass(frozen=True)
class Text:
    """A string that is not empty.

    Attributes:
      optional: Whether None is taken.
    """

    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        if (isinstance(value, str) and value) or (value is None and self.optional):
            return
        what = "a string that is not empty" + " or None" * self.optional
        raise ValueError(f"{name} must be {what}, got {shown(value)}")


@dataclasses.dataclass(frozen=True)
class PathLike:
    """A path of a file or folder, as a string or a `pathlib.Path`.

    Attributes:
      optional: Whether None is taken.
    """

    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises TypeError, naming the argument, if the value breaks the rule."""
        is_path = isinstance(value, str | os.PathLike) and str(value) != ""
        if (is_path and "\0" not in str(value)) or (value is None and self.optional):
            return
        what = "a path, as a string or pathlib.Path" + ", or None" * self.optional
        raise TypeError(f"{name} must be {what}, got {shown(value)}")


Rule = Number | Integer | Flag | OneOf | TupleOf | Like | Function | Text | PathLike

POSITIVE = Number(above=0.0)
POSITIVE_OR_NONE = Number(above=0.0, optional=True)
POSITIVE_OR_INFINITE = Number(above=0.0, infinite=True)
NOT_NEGATIVE = Number(at_least=0.0)
FRACTION = Number(at_least=0.0, at_most=1.0)
DISCOUNT = Number(above=0.0, at_most=1.0)
RATE = Number(above=0.0, at_most=1.0)
RATE_OR_NONE = Number(above=0.0, at_most=1.0, optional=True)
STEPS = Number(at_least=0.0, at_most=2**31 - 1, whole=True)
ANY_NUMBER = Number()
THRESHOLD = Number(above=-math.inf, infinite=True)  # Infinity is never reached.
THRESHOLD_OR_NONE = Number(above=-math.inf, infinite=True, optional=True)
COUNT = Integer()
MANY = Integer(at_most=2**24)  # Whatever there is side by side in memory.
WIDTH = Integer(at_most=2**16)
INDEX = Integer(at_least=0)
SEED = Integer(at_least=0, at_most=2**63 - 1)
SEED_OR_NONE = Integer(at_least=0, at_most=2**63 - 1, optional=True)
FLAG = Flag()
LAYERS = TupleOf(WIDTH)
SCALES = TupleOf(POSITIVE, min_size=1)
PATH = PathLike()
REQUIRED: Any = dataclasses.MISSING  # The default of a field that has none.


def traced(default: Any, rule: Rule, **kwargs: Any) -> Any:
    """A field of a `flax.struct` dataclass that is a leaf, so it may vary in a batch.

    Args:
      default: The default value.
      rule: What the field may be.
      **kwargs: Passed to `dataclasses.field`.
    """
    return struct.field(metadata={_RULE: rule}, default=default, **kwargs)


def static(default: Any, rule: Rule, **kwargs: Any) -> Any:
    """A field of a `flax.struct` dataclass that fixes shapes or control flow.

    Args:
      default: The default value.
      rule: What the field may be.
      **kwargs: Passed to `dataclasses.field`.
    """
    return struct.field(
        pytree_node=False, metadata={_RULE: rule}, default=default, **kwargs
    )


def setting(default: Any, rule: Rule, **kwargs: Any) -> Any:
    """A field of an ordinary frozen dataclass.

    Args:
      default: The default value.
      rule: What the field may be.
      **kwargs: Passed to `dataclasses.field`.
    """
    metadata = {_RULE: rule, "pytree_node": False}
    return dataclasses.field(default=default, metadata=metadata, **kwargs)


def rules(obj: Any) -> dict[str, Rule]:
    """The rules of a dataclass or its instance, by field."""
    return {
        field.name: field.metadata[_RULE]
        for field in dataclasses.fields(obj)
        if _RULE in field.metadata
    }


def check(obj: Any) -> None:
    """Compares the fields of a dataclass, and of those in it, with their rules.

    Raises:
      ValueError: A field breaks its rule; the message names class, field and value.
      TypeError: An object is not of the kind that the field takes.
    """
    if isinstance(obj, tuple | list):
        for item in obj:
            check(item)
    if not dataclasses.is_dataclass(obj) or isinstance(obj, type):
        return
    for field in dataclasses.fields(obj):
        value = getattr(obj, field.name)
        rule = field.metadata.get(_RULE)
        if rule is not None:
            name = f"{type(obj).__name__}.{field.name}"
            is_array = isinstance(value, np.ndarray | jax.Array)
            if is_array and not field.metadata.get("pytree_node", True):
                # It would have to be hashed.
                raise ValueError(f"{name} must be no array, got {shown(value)}")
            rule.check(name, value)
        check(value)


def shown(value: Any) -> str:
    """A value as messages show it: on one line, and never a whole array."""
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever a stranger's repr does
        text = f"a {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:117]}..."


def _number(value: Any) -> float | None:
    """A number of Python, NumPy or JAX; NaN if it is beyond all floats."""
    if isinstance(value, np.ndarray | jax.Array):
        if value.shape or value.dtype == bool:
            return None
        value = np.asarray(value)[()] if _is_numeric(value.dtype) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _is_numeric(dtype: Any) -> bool:
    is_number = jax.numpy.issubdtype(dtype, np.floating)
    return is_number or jax.numpy.issubdtype(dtype, np.integer)


def as_key(key: Any, name: str = "key") -> jax.Array:
    """A typed PRNG key from a seed, a key, or a key of JAX's old kind.

    Args:
      key: An integer in [0, 2^63), a typed key, or uint32 `[2]`.
      name: The argument's name, for the message.

    Raises:
      ValueError: It is none of these, or a batch of keys.
    """
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if 0 <= key < 2**63:
            return seed_key(int(key))
    elif isinstance(key, jax.Array | np.ndarray):
        is_typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
        if not is_typed and key.dtype == np.uint32 and key.shape == (2,):
            key, is_typed = jax.random.wrap_key_data(jax.numpy.asarray(key)), True
        if is_typed and key.shape == ():
            return jax.numpy.asarray(key)
    raise ValueError(
        f"{name} must be a seed (an integer of at least 0, below 2**63) or one PRNG "
        f"key (jax.random.key(0)), got {_shown_key(key)}"
    )


def seed_key(seed: int) -> jax.Array:
    """The key of a seed in [0, 2^63); different seeds have different keys.

    `jax.random.key` sees the lower 32 bits alone unless 64-bit numbers are enabled.
    Here the upper bits are folded in, in both modes; without any, the key is JAX's.

    Raises:
      ValueError: It is no such integer.
    """
    SEED.check("seed", seed)
    key = jax.random.key(np.uint32(seed % 2**32))
    return jax.random.fold_in(key, np.uint32(seed >> 32)) if seed >> 32 else key


def as_keys(key: Any, name: str = "key") -> jax.Array:
    """Typed PRNG keys of any shape, or the key of a seed.

    Args:
      key: What `as_key` takes; or typed keys `[...]`, or uint32 `[..., 2]`.
      name: The argument's name, for the message.

    Raises:
      ValueError: It is none of these.
    """
    if isinstance(key, jax.Array | np.ndarray) and key.ndim:
        if jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
            return jax.numpy.asarray(key)
        if key.dtype == np.uint32 and key.shape[-1] == 2:
            return jax.random.wrap_key_data(jax.numpy.asarray(key))
    return as_key(key, name)


def _shown_key(key: Any) -> str:
    if getattr(key, "shape", ()) == ():
        return shown(key)
    return f"an array of shape {key.shape} and dtype {key.dtype}"

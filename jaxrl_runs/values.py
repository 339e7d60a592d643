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
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import struct
from jax.core import Tracer

_RULE = "rule"


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite real number, or an array of them where the field is traced.

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
            if bound is not None
        ]
        text = " ".join([kind, " and ".join(bounds)]).strip()
        return f"{text} or None" if self.optional else text

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        if isinstance(value, Tracer) or (value is None and self.optional):
            return
        if not self._holds(value):
            raise ValueError(f"{name} must be {self}, got {value!r}")

    def _holds(self, value: Any) -> bool:
        is_scalar = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_scalar and not isinstance(value, np.ndarray | jax.Array):
            return False
        try:
            array = np.asarray(value)
            array = array.astype(np.float64)
            if array.size == 0 or np.asarray(value).dtype == bool:
                return False
        except (OverflowError, TypeError, ValueError):  # keys, integers beyond floats
            return False
        finite = ~np.isnan(array) if self.infinite else np.isfinite(array)
        fits = [finite]
        if self.above is not None:
            fits.append(array > self.above)
        if self.at_least is not None:
            fits.append(array >= self.at_least)
        if self.below is not None:
            fits.append(array < self.below)
        if self.at_most is not None:
            fits.append(array <= self.at_most)
        if self.whole:
            fits.append(array == np.round(array))
        return bool(np.all(fits))


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
        if self.at_most != 2**31 - 1:
            text += f" and at most {self.at_most}"
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
            raise ValueError(f"{name} must be {self}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {value!r}")


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
            f"{name} must be one of {', '.join(map(repr, names))}, got {value!r}{hint}"
        )


@dataclasses.dataclass(frozen=True)
class TupleOf:
    """A tuple (or list) whose items all keep one rule.

    Attributes:
      rule: The items' rule.
      min_size: The fewest items.
    """

    rule: Rule
    min_size: int = 0

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, naming the setting, if the value breaks the rule."""
        if not isinstance(value, tuple | list) or len(value) < self.min_size:
            raise ValueError(
                f"{name} must be a tuple of at least {self.min_size} items, got "
                f"{value!r}"
            )
        for index, item in enumerate(value):
            self.rule.check(f"{name}[{index}]", item)


Rule = Number | Integer | Flag | OneOf | TupleOf

POSITIVE = Number(above=0.0)
NOT_NEGATIVE = Number(at_least=0.0)
FRACTION = Number(at_least=0.0, at_most=1.0)
DISCOUNT = Number(above=0.0, at_most=1.0)
STEPS = Number(at_least=0.0, whole=True)
ANY_NUMBER = Number()
COUNT = Integer()
INDEX = Integer(at_least=0)
FLAG = Flag()
LAYERS = TupleOf(COUNT)


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
    return dataclasses.field(default=default, metadata={_RULE: rule}, **kwargs)


def rules(obj: Any) -> dict[str, Rule]:
    """The rules of a dataclass or its instance, by field."""
    return {
        field.name: field.metadata[_RULE]
        for field in dataclasses.fields(obj)
        if _RULE in field.metadata
    }


def check(obj: Any) -> None:
    """Compares the fields of a dataclass with their rules.

    Raises:
      ValueError: A field breaks its rule; the message names class, field and value.
    """
    name = type(obj).__name__
    for field, rule in rules(obj).items():
        rule.check(f"{name}.{field}", getattr(obj, field))


def as_key(key: Any, name: str = "key") -> jax.Array:
    """A typed PRNG key from a seed, a key, or a key of JAX's old kind.

    Args:
      key: An integer of at least 0, a typed key, or uint32 `[2]`.
      name: The argument's name, for the message.

    Raises:
      ValueError: It is none of these, or a batch of keys.
    """
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if 0 <= key < 2**63:
            return jax.random.key(int(key))
    elif isinstance(key, jax.Array | np.ndarray):
        is_typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
        if not is_typed and key.dtype == np.uint32 and key.shape == (2,):
            key, is_typed = jax.random.wrap_key_data(jax.numpy.asarray(key)), True
        if is_typed and key.shape == ():
            return jax.numpy.asarray(key)
    shape = getattr(key, "shape", None)
    found = f"an array of shape {shape}" if shape is not None else repr(key)
    raise ValueError(
        f"{name} must be a seed (an integer of at least 0) or one PRNG key "
        f"(jax.random.key(0)), got {found}"
    )

"""Search spaces of finetuning runs: categorical, numeric and conditional choices.

A configuration is a plain ``dict`` from hyperparameter name to value. Tables and
networks see it as a vector: a categorical hyperparameter takes one column per choice
(``cat:<name>:<choice>``), every other one takes one column. An inactive or absent
hyperparameter is NaN in its column (all zeros for a categorical one).
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_runs.values import ANY_NUMBER, FLAG, shown

Config = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Condition:
    """A hyperparameter is active only where ``parent`` has one of ``values``."""

    parent: str
    values: tuple[Any, ...]

    def __post_init__(self):
        if isinstance(self.values, (str, bytes)) or not isinstance(
            self.values, Sequence
        ):
            raise ValueError(f"values must be a tuple of values, got {self.values!r}")
        if not len(self.values):
            raise ValueError("values must hold one value or more, got none")
        object.__setattr__(self, "values", _freeze(self.values))


@dataclasses.dataclass(frozen=True)
class Categorical:
    """One of several unordered choices; one-hot encoded.

    Attributes:
        name: Name of the hyperparameter.
        choices: Allowed values: strings, numbers, booleans or None.
        condition: When it is active; None means always.
        optional: Whether None ("not used") is allowed too; it has no column.
    """

    name: str
    choices: tuple[Any, ...]
    condition: Condition | None = None
    optional: bool = False

    def __post_init__(self):
        _check_choices(self)

    @functools.cached_property
    def columns(self) -> list[str]:
        """Names of the vector columns."""
        return [f"cat:{self.name}:{choice}" for choice in self.choices]

    @functools.cached_property
    def _positions(self) -> dict[Any, int]:
        return {choice: i for i, choice in enumerate(self.choices)}

    def index(self, value: Any) -> int:
        """Position of a choice, -1 where it is none; takes no longer with many."""
        try:
            return self._positions.get(value, -1)
        except TypeError:  # a list, a dict
            return -1

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` is one of the choices."""
        return self.index(value) >= 0 or (self.optional and value is None)

    def sample(self, random: np.random.Generator) -> Any:
        """Draw a choice uniformly."""
        index = int(random.integers(len(self.choices) + self.optional))
        return None if index == len(self.choices) else self.choices[index]

    def describe(self) -> str:
        """Say what is allowed, for error messages."""
        return f"one of {_listed(self.choices)}" + (" or None" if self.optional else "")


@dataclasses.dataclass(frozen=True)
class Ordinal:
    """One of several numbers whose order means something; one column.

    Attributes:
        name: Name of the hyperparameter.
        choices: Allowed numbers, increasing.
        log: Whether networks should see the logarithm.
        condition: When it is active; None means always.
        optional: Whether None ("not used") is a choice too.
    """

    name: str
    choices: tuple[float, ...]
    log: bool = False
    condition: Condition | None = None
    optional: bool = False

    def __post_init__(self):
        _check_choices(self)
        for value in self.choices:
            if not _is_number(value):
                raise ValueError(
                    f"{self.name}: choices must be finite numbers, got {value!r}; use "
                    "Categorical for words"
                )
        if any(a >= b for a, b in zip(self.choices, self.choices[1:], strict=False)):
            raise ValueError(
                f"{self.name}: choices must increase, got {_listed(self.choices)}"
            )

    @property
    def columns(self) -> list[str]:
        """Names of the vector columns."""
        return [self.name]

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` is one of the choices, to float32 rounding."""
        if value is None:
            return self.optional
        if not isinstance(value, (bool, int, float, np.number)):
            return False
        value = float(value)
        return any(abs(value - c) <= 1e-12 + 1e-5 * abs(c) for c in self.choices)

    def sample(self, random: np.random.Generator) -> float | None:
        """Draw a choice uniformly."""
        index = int(random.integers(len(self.choices) + self.optional))
        return None if index == len(self.choices) else self.choices[index]

    def describe(self) -> str:
        """Say what is allowed, for error messages."""
        return f"one of {_listed(self.choices)}" + (" or None" if self.optional else "")


@dataclasses.dataclass(frozen=True)
class Float:
    """A number in an interval; one column.

    Attributes:
        name: Name of the hyperparameter.
        low: Smallest value.
        high: Largest value.
        log: Whether it is sampled, and seen by networks, on a logarithmic scale.
        integer: Whether values are whole numbers.
        condition: When it is active; None means always.
        optional: Whether None ("not used") is allowed too.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False
    condition: Condition | None = None
    optional: bool = False

    def __post_init__(self):
        _check_name(self)
        for field in ("low", "high"):
            ANY_NUMBER.check(f"{self.name}: {field}", getattr(self, field))
        if not self.low <= self.high:
            raise ValueError(
                f"{self.name}: low must be at most high, got {self.low} and {self.high}"
            )
        if self.log and self.low <= 0:
            raise ValueError(
                f"{self.name}: low must be positive with log=True, got {self.low}"
            )

    @property
    def columns(self) -> list[str]:
        """Names of the vector columns."""
        return [self.name]

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` lies in the interval."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            return False
        slack = 1e-5 * max(abs(self.low), abs(self.high))
        value = float(value)
        if self.integer and abs(value - round(value)) > 1e-5:
            return False
        return self.low - slack <= value <= self.high + slack

    def sample(self, random: np.random.Generator) -> float:
        """Draw a value uniformly, or log-uniformly with ``log``."""
        if self.log:
            value = np.exp(random.uniform(np.log(self.low), np.log(self.high)))
        else:
            value = random.uniform(self.low, self.high)
        return round(value) if self.integer else float(value)

    def describe(self) -> str:
        """Say what is allowed, for error messages."""
        kind = "a whole number" if self.integer else "a number"
        return f"{kind} in [{self.low}, {self.high}]"


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (bool, int, float, np.number))
    return is_number and bool(np.isfinite(value))


def _listed(choices: Sequence[Any]) -> str:
    """The choices, cut short where there are many."""
    listed = list(choices[:20])
    rest = len(choices) - len(listed)
    return f"{listed}" + (f" and {rest} more" if rest else "")


def _check_name(h: Any) -> None:
    if not isinstance(h.name, str) or not h.name:
        raise ValueError(f"name must be a non-empty string, got {h.name!r}")
    if h.condition is not None and not isinstance(h.condition, Condition):
        raise ValueError(
            f"{h.name}: condition must be a Condition, got {shown(h.condition)}"
        )
    for flag in ("log", "integer", "optional"):
        FLAG.check(f"{h.name}: {flag}", getattr(h, flag, False))


def _check_choices(h: Any) -> None:
    """Make a tuple of the choices; a bare string would be one of letters."""
    _check_name(h)
    if isinstance(h.choices, (str, bytes)) or not isinstance(h.choices, Sequence):
        raise ValueError(
            f"{h.name}: choices must be a tuple of values, got {h.choices!r}"
        )
    object.__setattr__(h, "choices", _freeze(h.choices))
    if not h.choices:
        raise ValueError(f"{h.name}: choices must hold one value or more, got none")
    try:
        num = len(set(h.choices))
    except TypeError as error:
        raise ValueError(
            f"{h.name}: choices must be strings, numbers, booleans or None ({error})"
        ) from None
    if num < len(h.choices):
        raise ValueError(f"{h.name}: choices must differ, got {_listed(h.choices)}")


Hyperparameter = Categorical | Ordinal | Float
_KINDS = {"categorical": Categorical, "ordinal": Ordinal, "float": Float}


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """An ordered set of hyperparameters with conditions between them.

    Attributes:
        hyperparameters: The hyperparameters; a condition's parent must be one of them.

    Raises:
        ValueError: On duplicate names, unknown parents, or a parent value that is not
            among the parent's choices.
    """

    hyperparameters: tuple[Hyperparameter, ...]

    def __post_init__(self):
        if not isinstance(self.hyperparameters, Sequence):
            raise ValueError(
                "hyperparameters must be a tuple of Categorical, Ordinal or Float, got "
                f"{shown(self.hyperparameters)}"
            )
        object.__setattr__(self, "hyperparameters", tuple(self.hyperparameters))
        for h in self.hyperparameters:
            if not isinstance(h, Hyperparameter):
                raise ValueError(
                    f"hyperparameters must be Categorical, Ordinal or Float, got {h!r}"
                )
        if not self.hyperparameters:
            raise ValueError("hyperparameters must hold one or more, got none")
        names = [h.name for h in self.hyperparameters]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(
                f"hyperparameters must have names of their own, got {twice} twice"
            )
        self._check_conditions(names)

    def _check_conditions(self, names: list[str]) -> None:
        for h in self.hyperparameters:
            ancestors = [h.name]
            while (condition := self[ancestors[-1]].condition) is not None:
                if condition.parent in ancestors:
                    raise ValueError(f"{h.name}: its condition leads back to itself")
                if condition.parent not in names:
                    break
                ancestors.append(condition.parent)
            if h.condition is None:
                continue
            if h.condition.parent not in names:
                raise ValueError(
                    f"{h.name}: its condition names {h.condition.parent!r}, "
                    "which is not in the space"
                )
            parent = self[h.condition.parent]
            for value in h.condition.values:
                if not parent.contains(value):
                    raise ValueError(
                        f"{h.name}: its condition on {parent.name} must be "
                        f"{parent.describe()}, got {value!r}"
                    )

    @functools.cached_property
    def _by_name(self) -> dict[str, Hyperparameter]:
        return {h.name: h for h in self.hyperparameters}

    def __getitem__(self, name: str) -> Hyperparameter:
        return self._by_name[name]

    @functools.cached_property
    def columns(self) -> list[str]:
        """Names of the vector columns, in order (``num_columns`` of them)."""
        return [column for h in self.hyperparameters for column in h.columns]

    @property
    def num_columns(self) -> int:
        """Width of a configuration's vector."""
        return len(self.columns)

    def is_active(self, name: str, config: Mapping[str, Any]) -> bool:
        """Tell whether a hyperparameter counts in this configuration."""
        condition = self[name].condition
        if condition is None:
            return True
        value = config.get(condition.parent)
        return self.is_active(condition.parent, config) and any(
            value == v for v in condition.values
        )

    def validate(self, config: Mapping[str, Any], where: str = "configuration") -> None:
        """Check names and values of a configuration.

        Raises:
            ValueError: On unknown names, missing active ones, or values that are not
                allowed; the message names the hyperparameter and what was expected.
        """
        unknown = sorted(set(config) - set(self._by_name))
        if unknown:
            raise ValueError(f"{where}: unknown hyperparameters {unknown}")
        for h in self.hyperparameters:
            if not self.is_active(h.name, config):
                continue
            if h.name not in config:
                raise ValueError(f"{where}: hyperparameter {h.name!r} is missing")
            if not h.contains(config[h.name]):
                raise ValueError(
                    f"{where}: {h.name} must be {h.describe()}, got {config[h.name]!r}"
                )

    def sample(self, random: np.random.Generator) -> Config:
        """Draw a configuration; only active hyperparameters are in it."""
        drawn = {h.name: h.sample(random) for h in self.hyperparameters}
        return {k: v for k, v in drawn.items() if self.is_active(k, drawn)}

    def sample_distinct(self, random: np.random.Generator, num: int) -> list[Config]:
        """Draw configurations that differ; fewer where the space holds fewer.

        Args:
            random: Generator.
            num: How many at most.
        """
        found: dict[bytes, Config] = {}
        misses = 0  # in a row
        while len(found) < num and misses < 200 + 10 * len(found):
            config = self.sample(random)
            key = self.to_vector(config).tobytes()
            misses = misses + 1 if key in found else 0
            found.setdefault(key, config)
        return list(found.values())

    def to_vector(self, config: Mapping[str, Any]) -> np.ndarray:
        """Encode a valid configuration as float32 ``[num_columns]``."""
        self.validate(config)
        vector = np.zeros(self.num_columns, np.float32)
        start = 0
        for h in self.hyperparameters:
            active = h.name in config and self.is_active(h.name, config)
            value = config[h.name] if active else None
            if not isinstance(h, Categorical):
                vector[start] = np.nan if value is None else float(value)
            elif active and h.index(value) >= 0:
                vector[start + h.index(value)] = 1.0
            start += len(h.columns)
        return vector

    def to_config(self, vector: np.ndarray) -> Config:
        """Decode a vector; inactive and absent hyperparameters are left out."""
        found: Config = {}
        start = 0
        for h in self.hyperparameters:
            part = vector[start : start + len(h.columns)]
            start += len(h.columns)
            if isinstance(h, Categorical):
                if part.any():
                    found[h.name] = h.choices[int(np.argmax(part))]
                elif h.optional:
                    found[h.name] = None
            elif np.isfinite(part[0]):
                value = float(part[0])
                if isinstance(h, Ordinal):
                    value = min(h.choices, key=lambda c: abs(c - value))
                found[h.name] = round(value) if getattr(h, "integer", False) else value
            elif h.optional:
                found[h.name] = None
        return {k: v for k, v in found.items() if self.is_active(k, found)}

    def to_json(self) -> str:
        """Write the space as a json string."""
        rows = []
        for h in self.hyperparameters:
            kind = next(k for k, cls in _KINDS.items() if isinstance(h, cls))
            rows.append({"kind": kind, **dataclasses.asdict(h)})
        return json.dumps(rows)

    @classmethod
    def from_json(cls, text: str) -> SearchSpace:
        """Read a space written by `to_json`."""
        found: list[Hyperparameter] = []
        for row in json.loads(text):
            kind = _KINDS[row.pop("kind")]
            if row["condition"] is not None:
                condition = row["condition"]
                row["condition"] = Condition(
                    condition["parent"], _freeze(condition["values"])
                )
            if "choices" in row:
                row["choices"] = _freeze(row["choices"])
            found.append(kind(**row))
        return cls(tuple(found))


def _freeze(values: Sequence[Any]) -> tuple[Any, ...]:
    """Turn lists, as json has them, into (hashable) tuples."""
    return tuple(_freeze(v) if isinstance(v, (list, tuple)) else v for v in values)


def infer_space(columns: Sequence[str], table: np.ndarray) -> SearchSpace:
    """Read a search space off a table of encoded configurations.

    Columns named ``cat:<name>:<choice>`` are grouped into categorical
    hyperparameters; a numeric column with at most 16 values becomes ordinal, any other
    an interval. A column is seen on a logarithmic scale where its largest value is at
    least 50 times its smallest positive one.

    Args:
        columns: Column names, ``[H]``; the columns of one categorical hyperparameter
            must stand together.
        table: Values ``[N, H]``; NaN where absent.
    """
    found: list[Hyperparameter] = []
    groups: dict[str, list[str]] = {}
    for column in columns:
        if column.startswith("cat:"):
            name, choice = column[4:].split(":", 1)
            groups.setdefault(name, []).append(choice)
    for index, column in enumerate(columns):
        if column.startswith("cat:"):
            name = column[4:].split(":", 1)[0]
            if name in groups:
                choices = tuple(groups.pop(name))
                part = table[:, index : index + len(choices)]
                is_optional = bool((~(part > 0).any(1)).any())
                found.append(Categorical(name, choices, optional=is_optional))
            continue
        values = table[:, index]
        optional = bool(np.isnan(values).any())
        values = np.unique(values[np.isfinite(values)]).astype(float)
        if len(values) == 0:
            values = np.zeros(1)
        positive = values[values > 0]
        log = len(positive) > 1 and positive[-1] / positive[0] >= 50
        if len(values) <= 16:
            choices = tuple(float(f"{v:.6g}") for v in values)
            found.append(Ordinal(column, choices, bool(log), optional=optional))
        else:
            log = bool(log and values[0] > 0)
            low, high = float(values[0]), float(values[-1])
            found.append(Float(column, low, high, log, optional=optional))
    space = SearchSpace(tuple(found))
    if space.columns != list(columns):
        raise ValueError("hp_names: the columns of a categorical do not stand together")
    return space


def blank_inactive(space: SearchSpace, vectors: np.ndarray) -> np.ndarray:
    """Make inactive hyperparameters absent in encoded configurations.

    Args:
        space: A space whose conditions name categorical parents.
        vectors: ``[N, H]``.

    Returns:
        A copy with NaN, or zeros for one-hot columns, where a condition is not met.
    """
    vectors = np.array(vectors, np.float32)
    columns = space.columns
    for h in space.hyperparameters:
        if h.condition is None or not isinstance(
            space[h.condition.parent], Categorical
        ):
            continue
        wanted = [f"cat:{h.condition.parent}:{v}" for v in h.condition.values]
        active = (vectors[:, [columns.index(c) for c in wanted]] > 0).any(
            1, keepdims=True
        )
        own = [columns.index(c) for c in h.columns]
        blank = 0.0 if isinstance(h, Categorical) else np.nan
        vectors[:, own] = np.where(active, vectors[:, own], blank)
    return vectors

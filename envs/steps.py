"""Steps, counted by where they were taken."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
from flax import struct

StepKind = Literal["real", "model", "synthetic"]
"""A real task, a learned model of one, or an environment that was evolved."""


@struct.dataclass
class Steps:
    """How many steps were taken in what; counts add up field by field.

    Attributes:
        real: Steps in a real task, which is what data costs.
        model: Steps in a learned model of a task.
        synthetic: Steps in an environment that stands for no dynamics in particular.
    """

    real: int | jax.Array = 0
    model: int | jax.Array = 0
    synthetic: int | jax.Array = 0

    @classmethod
    def of(cls, kind: StepKind, number: int | jax.Array) -> Steps:
        """So many steps of one kind."""
        return cls(**{kind: number})

    def __add__(self, other: Steps) -> Steps:
        """The sum of two counts."""
        return Steps(
            self.real + other.real,
            self.model + other.model,
            self.synthetic + other.synthetic,
        )

    def as_dict(self) -> dict[str, int]:
        """`real_steps`, `model_steps` and `synthetic_steps`, as tables name them."""
        return {
            f"{kind}_steps": int(getattr(self, kind)) for kind in get_args(StepKind)
        }


def kind_of_steps(env: Any) -> StepKind:
    """What a step of an environment is, by its attribute ``task_kind``.

    A wrapper's steps are those of the environment inside (its ``_env``). An environment
    that does not say is a real task: whoever learns one has to declare it.

    Raises:
        ValueError: If the attribute is none of the three kinds.
    """
    kind = None
    while env is not None and kind is None:
        kind = getattr(env, "task_kind", None)
        env = getattr(env, "_env", None)
    kind = kind or "real"
    if kind not in get_args(StepKind):
        raise ValueError(
            f"task_kind must be one of {', '.join(get_args(StepKind))}, got {kind!r}"
        )
    return kind

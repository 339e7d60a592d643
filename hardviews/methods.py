"""Self-supervised methods: what is computed of a view, and the loss of two views.

A method is a frozen dataclass with three functions and a number; to write one of your
own, write them. Whatever selects views or trains knows no more of a method than this:

    heads(config)                  networks on top of the encoder, by name
    outputs(apply, views)          what two views of a picture are compared by
    pair_loss(first, second)       one loss per picture, float32 [B]
    target_rate                    how fast a slow copy follows, a number; or None

Heads are modules of flax that are called `(x, train)`, as `networks.Projector` is. Each
gets the input that `outputs` gives it: they may stand one after another or side by
side.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from hardviews.networks import Projector, ResNetConfig
from jaxrl_runs import values
from jaxrl_runs.values import (
    POSITIVE,
    RATE,
    RATE_OR_NONE,
    WIDTH,
    Function,
    Like,
    setting,
    shown,
)

# Applies the encoder (pictures) or a head (features): (name, input, of the copy) -> out
Apply = Callable[..., jax.Array]


METHOD = Like("a method, such as SimSiam()", methods=("heads", "outputs", "pair_loss"))


class Method(Protocol):
    """A self-supervised method; see this module's beginning."""

    @property
    def target_rate(self) -> float | None:
        """How much of the network a slow copy takes over in each step."""
        ...

    def heads(self, config: ResNetConfig) -> dict[str, nn.Module]:
        """Networks on top of the encoder, by name; "encoder" is taken.

        Modules of flax, called `(x, train)`: features `[B, F]` in, `train` whether
        batch norm uses the batch's moments. `outputs` has to apply each of them.
        """
        ...

    def outputs(self, apply: Apply, views: jax.Array) -> Any:
        """What a view is compared by: a pytree of `[B, D]`, from views `[B, S, S, 3]`.

        Args:
            apply: `apply(name, input)` applies the encoder or a head,
                `apply(name, input, target=True)` its slow copy.
            views: Standardised pictures.
        """
        ...

    def pair_loss(self, first: Any, second: Any) -> jax.Array:
        """Loss of each picture, `[B]`, from the outputs of its two views."""
        ...


def check_method(name: str, method: Any) -> None:
    """Checks what can be known of a method before it is used.

    Raises:
        TypeError: It lacks a function, or cannot be hashed.
        ValueError: It has no `target_rate`, or one out of range.
    """
    METHOD.check(name, method)
    if not hasattr(method, "target_rate"):
        raise ValueError(
            f"{name} must have heads, outputs, pair_loss and target_rate, got "
            f"{shown(method)} without target_rate; without a slow copy, write "
            "target_rate = None"
        )
    for function in ("heads", "outputs", "pair_loss"):
        Function("(...)").check(f"{name}.{function}", getattr(method, function))
    RATE_OR_NONE.check(f"{name}.target_rate", method.target_rate)
    try:
        hash(method)
    except TypeError:
        raise TypeError(
            f"{name} must be a frozen dataclass, which can be hashed, got "
            f"{shown(method)}"
        ) from None


def check_heads(heads: Any) -> None:
    """Checks what `heads` returned.

    Raises:
        ValueError: It is no dictionary of modules that are called `(x, train)`.
    """
    if not isinstance(heads, dict):
        raise ValueError(
            f"heads must return a dictionary of modules by name, got {shown(heads)}"
        )
    for name, head in heads.items():
        if name == "encoder":
            raise ValueError("heads must not be named 'encoder', got one that is")
        if not isinstance(head, nn.Module):
            raise ValueError(
                f"heads[{name!r}] must be a module of flax, got {shown(head)}"
            )
        try:
            inspect.signature(type(head).__call__).bind(head, None, True)
        except TypeError:
            raise ValueError(
                f"heads[{name!r}] must be called (x, train), got a "
                f"{type(head).__name__}, which is not; hardviews.networks.Projector is"
            ) from None


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b, axis=-1)


@dataclasses.dataclass(frozen=True)
class SimSiam:
    """Two views predict each other, without gradient to what is predicted.

    Source: Chen and He, *Exploring Simple Siamese Representation Learning* (2021).

    Attributes:
        dim: Size of projections; 2048 on paper.
        hidden: Width of the predictor; 512 on paper.
    """

    dim: int = setting(256, WIDTH)
    hidden: int = setting(64, WIDTH)

    def __post_init__(self):
        values.check(self)

    target_rate = None

    def heads(self, config: ResNetConfig) -> dict[str, nn.Module]:
        """Projector and predictor."""
        del config
        return {
            "projector": Projector((self.dim, self.dim)),
            "predictor": Projector((self.hidden, self.dim), last_norm=False),
        }

    def outputs(self, apply: Apply, views: jax.Array) -> Any:
        """Prediction and projection, of length one."""
        z = apply("projector", apply("encoder", views))
        return {
            "prediction": _unit(apply("predictor", z)),
            "target": _unit(jax.lax.stop_gradient(z)),
        }

    def pair_loss(self, first: Any, second: Any) -> jax.Array:
        """Minus the mean of both cosines."""
        return -0.5 * (
            _dot(first["prediction"], second["target"])
            + _dot(second["prediction"], first["target"])
        )


@dataclasses.dataclass(frozen=True)
class BYOL:
    """As SimSiam, but what is predicted comes from a slow copy of the network.

    Source: Grill et al., *Bootstrap Your Own Latent* (2020).

    Attributes:
        dim: Size of projections.
        hidden: Width of projector and predictor.
        rate: How much of the network the copy takes over in each step.
    """

    dim: int = setting(128, WIDTH)
    hidden: int = setting(256, WIDTH)
    rate: float = setting(0.01, RATE)

    def __post_init__(self):
        values.check(self)

    @property
    def target_rate(self) -> float:
        """How much of the network the copy takes over in each step."""
        return self.rate

    def heads(self, config: ResNetConfig) -> dict[str, nn.Module]:
        """Projector and predictor."""
        del config
        return {
            "projector": Projector((self.hidden, self.dim), last_norm=False),
            "predictor": Projector((self.hidden, self.dim), last_norm=False),
        }

    def outputs(self, apply: Apply, views: jax.Array) -> Any:
        """The network's prediction and the copy's projection, of length one."""
        z = apply("projector", apply("encoder", views))
        target = apply("encoder", views, target=True)
        target = apply("projector", target, target=True)
        return {
            "prediction": _unit(apply("predictor", z)),
            "target": _unit(jax.lax.stop_gradient(target)),
        }

    def pair_loss(self, first: Any, second: Any) -> jax.Array:
        """Squared distances of both predictions, which are 2 - 2 cos."""
        cosines = _dot(first["prediction"], second["target"])
        return 4 - 2 * (cosines + _dot(second["prediction"], first["target"]))


@dataclasses.dataclass(frozen=True)
class SimCLR:
    """A view finds its picture's other view among all views of the batch.

    Source: Chen et al., *A Simple Framework for Contrastive Learning of Visual
    Representations* (2020).

    Attributes:
        dim: Size of projections.
        hidden: Width of the projector.
        temperature: Of the softmax.
    """

    dim: int = setting(128, WIDTH)
    hidden: int = setting(256, WIDTH)
    temperature: float = setting(0.5, POSITIVE)

    def __post_init__(self):
        values.check(self)

    target_rate = None

    def heads(self, config: ResNetConfig) -> dict[str, nn.Module]:
        """The projector."""
        del config
        return {"projector": Projector((self.hidden, self.dim), last_norm=False)}

    def outputs(self, apply: Apply, views: jax.Array) -> Any:
        """The projection, of length one."""
        return {"projection": _unit(apply("projector", apply("encoder", views)))}

    def pair_loss(self, first: Any, second: Any) -> jax.Array:
        """Cross entropy of each picture's two views, their mean."""
        both = jnp.concatenate([first["projection"], second["projection"]])
        number = both.shape[0]
        logits = both @ both.T / self.temperature
        logits = jnp.where(jnp.eye(number, dtype=bool), -jnp.inf, logits)
        partner = jnp.roll(jnp.arange(number), number // 2)
        right = jnp.take_along_axis(logits, partner[:, None], axis=1)[:, 0]
        loss = jax.nn.logsumexp(logits, axis=1) - right
        return jnp.mean(loss.reshape(2, -1), axis=0)


METHODS: dict[str, type] = {"simsiam": SimSiam, "simclr": SimCLR, "byol": BYOL}

"""A network that says, for a context, how much each input matters to a kernel.

It looks at the slope of the marginal likelihood with respect to each input's relevance,
which weighs all pairs of rows by the kernel itself, moves all relevances at once, and
looks again, a few times: what a climb finds in dozens of steps of one length, it reads
off a few slopes, and it was trained once, on synthetic tasks, to move to where held-out
rows are likely. Inputs attend to each other and are otherwise alike, so that their
order means nothing and their number is free.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxrl_runs import values
from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_runs.values import MANY, setting
from jaxrl_runs.weight_files import (
    WeightFileError,
    check_arrays,
    read_weights,
    write_weights,
)

FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent / "pretrained" / "kernels.npz"
NUM_COLUMN_FEATURES, NUM_SHARED_FEATURES = 4, 6
_LEAST_NOISE, _LARGEST_NOISE = 1e-4, 1e2  # Smaller ones are rounding, in float32.
_LARGEST_LOG_CHANGE = 6.0
_LARGEST_MOVE = 3.0  # Of a round, in natural logarithms.
# From place [D + 1] to the log marginal likelihood and its gradient.
Likelihood = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class GuessConfig:
    """Sizes of the network.

    Attributes:
        width: Of what is known of an input.
        num_heads: Of the attention among inputs; divides the width.
        num_rounds: How often slopes are looked at.
    """

    width: int = setting(32, MANY)
    num_heads: int = setting(4, MANY)
    num_rounds: int = setting(3, MANY)

    def __post_init__(self):
        values.check(self)
        if self.width % self.num_heads:
            raise ValueError(
                f"num_heads must be a divisor of width {self.width}, got "
                f"{self.num_heads}"
            )


class Round(nn.Module):
    """One look at the slopes, and where to go from there."""

    config: GuessConfig

    @nn.compact
    def __call__(
        self, hidden: jax.Array, columns: jax.Array, shared: jax.Array, used: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """What is known of inputs [D, W] and the move [D + 1], the noise's last.

        Args:
            hidden: What was known of inputs, [D, W].
            columns: Features of each input, [D, NUM_COLUMN_FEATURES].
            shared: Features of the context, [NUM_SHARED_FEATURES].
            used: 1 for inputs that the kernel sees, [D].
        """
        width, zeros = self.config.width, nn.initializers.zeros
        shared = nn.Dense(width)(shared)
        hidden = hidden + nn.Dense(width)(columns) + shared
        hidden = hidden + nn.Dense(width)(nn.gelu(hidden))
        rows = nn.LayerNorm()(hidden)
        shape = self.config.num_heads, width // self.config.num_heads
        query, key, value = (nn.DenseGeneral(shape)(rows) for _ in range(3))
        logits = jnp.einsum("ihd,jhd->hij", query, key) / np.sqrt(shape[1])
        logits = jnp.where(used > 0, logits, -1e30)
        read = jnp.einsum("hij,jhd->ihd", jax.nn.softmax(logits), value)
        hidden = hidden + nn.DenseGeneral(width, axis=(-2, -1))(read)
        wide = nn.Dense(2 * width)(nn.LayerNorm()(hidden))
        hidden = used[:, None] * (hidden + nn.Dense(width)(nn.gelu(wide)))
        move = nn.Dense(1, kernel_init=zeros)(nn.gelu(hidden))[:, 0]
        pooled = jnp.sum(hidden, axis=0) / jnp.maximum(jnp.sum(used), 1.0)
        noise = nn.Dense(1, kernel_init=zeros)(nn.gelu(pooled))
        move = jnp.concatenate([used * move, noise])
        return hidden, _LARGEST_MOVE * jnp.tanh(move / _LARGEST_MOVE)


class Walk(NamedTuple):
    """Where R rounds go, and what is met there.

    Attributes:
        places: Logarithms of relevances, then of the noise, [R + 1, D + 1]; first the
            start.
        values: Log marginal likelihood at all but the last, [R].
        slopes: Its gradient, [R, D + 1].
    """

    places: jax.Array
    values: jax.Array
    slopes: jax.Array


def walk(
    weights: Any,
    config: GuessConfig,
    likelihood: Likelihood,
    start: jax.Array,
    used: jax.Array,
    about: tuple[jax.Array, jax.Array],
) -> Walk:
    """All rounds; the likelihood is a constant to derivatives.

    Args:
        weights: Of `init_guess`.
        config: Sizes.
        likelihood: Per row in use and target.
        start: A place, [D + 1].
        used: 1 for inputs that the kernel sees, [D].
        about: What `describe` says.
    """

    def one_round(carry, weights):
        hidden, place = carry
        value, slope = jax.lax.stop_gradient(likelihood(place))
        columns, shared = _features(place, start, value, slope, used, about)
        hidden, move = Round(config).apply(
            {"params": weights}, hidden, columns, shared, used
        )
        place = _within(place + move, start)
        return (hidden, place), (place, value, slope)

    hidden = jnp.zeros((len(used), config.width))
    weights = jax.tree.map(jnp.asarray, weights)
    _, (places, values, slopes) = jax.lax.scan(one_round, (hidden, start), weights)
    return Walk(jnp.concatenate([start[None], places]), values, slopes)


def _features(place, start, value, slope, used, about):
    """What a round reads: of inputs, [D, 4], and of the context, [6]."""
    of_columns, of_context = about
    number = jnp.log(jnp.maximum(jnp.sum(used), 1.0))
    slopes = jnp.arcsinh(300.0 * slope) / 4
    place, start = (jax.lax.stop_gradient(x) for x in (place, start))
    columns = [slopes[:-1], (place + 0.5 * number)[:-1] / 2, (place - start)[:-1] / 2]
    columns = jnp.concatenate([jnp.stack(columns, axis=1), of_columns], axis=1)
    shared = jnp.stack([slopes[-1], place[-1] / 4, jnp.arcsinh(value)])
    return used[:, None] * columns, jnp.concatenate([shared, of_context])


def _within(place, start):
    change = jnp.clip(
        place[:-1] - start[:-1], -_LARGEST_LOG_CHANGE, _LARGEST_LOG_CHANGE
    )
    noise = jnp.clip(place[-1:], np.log(_LEAST_NOISE), np.log(_LARGEST_NOISE))
    return jnp.concatenate([start[:-1] + change, noise])


def describe(
    inputs: jax.Array, targets: jax.Array, mask: jax.Array, num_free: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What is known before the first round: of each input, [D, 1], of all, [3].

    Args:
        inputs: Standardised, [N, D], 0 in rows that are not in use.
        targets: What a polynomial leaves, [N, O], likewise.
        mask: [N].
        num_free: Rows in use minus those that the polynomial explains.
    """
    number = jnp.maximum(jnp.sum(mask), 1.0)
    tails = jnp.sum(mask[:, None] * inputs**4, axis=0) / number
    power = jnp.sum(jnp.square(targets), axis=0) / number
    asked = power > 0
    left = jnp.sum(jnp.where(asked, jnp.log(power + 1e-9), 0.0))
    left = left / jnp.maximum(jnp.sum(asked), 1.0)
    of_context = jnp.stack([left / 8, jnp.log(number) / 4, num_free / number])
    return (jnp.log(tails + 0.1) / 2)[:, None], of_context


@functools.partial(jax.jit, static_argnums=1)
def init_guess(key: jax.Array, config: GuessConfig) -> dict:
    """Weights before any training: the guess is where it starts.

    Returns:
        Those of `Round` with a leading axis of rounds, which have weights of their own.
    """
    columns = jnp.zeros((2, NUM_COLUMN_FEATURES))
    hidden = jnp.zeros((2, config.width))
    shared = jnp.zeros(NUM_SHARED_FEATURES)

    def one_round(key):
        return Round(config).init(key, hidden, columns, shared, jnp.ones(2))["params"]

    return cast(dict, jax.vmap(one_round)(jax.random.split(key, config.num_rounds)))


@dataclasses.dataclass(frozen=True, eq=False)
class KernelGuess:
    """A trained network; guesses of equal weights are equal, and hashable.

    Attributes:
        weights: Arrays, nested in dictionaries.
        config: Sizes.
    """

    weights: Any
    config: GuessConfig = GuessConfig()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return tree_sha256(self.weights)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KernelGuess) and (self.digest, self.config) == (
            other.digest,
            other.config,
        )

    def __hash__(self) -> int:
        return hash((self.digest, self.config))

    def __call__(self, likelihood, start, used, about) -> jax.Array:
        """The place [D + 1] after the last round; arguments as in `walk`."""
        path = walk(self.weights, self.config, likelihood, start, used, about)
        return path.places[-1]


def save_guess(path: str | Path, guess: KernelGuess, card: dict) -> Path:
    """Writes weights (float16), sizes and a card, which JSON can hold."""
    flat = traverse_util.flatten_dict(guess.weights, sep="/")
    metadata = {
        "format_version": FORMAT_VERSION,
        "network": dataclasses.asdict(guess.config),
        "card": card,
    }
    arrays = {name: np.asarray(x, np.float16) for name, x in flat.items()}
    return write_weights(path, arrays, metadata, compressed=True)


def load_guess(path: str | Path | None = None) -> KernelGuess:
    """Reads a trained network.

    Args:
        path: A file of `save_guess`, or the folder of a run of `python -m oswm.train
            --preset kernels`; by default the network that ships with the package.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or of another format version.
    """
    path = SHIPPED if path is None else Path(path)
    path = path / "kernels.npz" if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no kernels.npz there; train a network with "
            "`python -m oswm.train --preset kernels --out DIR`"
        )
    metadata, arrays = read_weights(path, what="a guess of kernels")
    found = metadata.get("format_version") if metadata else None
    if found != FORMAT_VERSION:
        raise WeightFileError(
            f"{path}: format version {found!r}, this version reads {FORMAT_VERSION}; "
            "train again with `python -m oswm.train --preset kernels`"
        )
    try:
        config = GuessConfig(**metadata["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightFileError(f"{path}: not a guess of kernels ({error})") from error
    wanted = jax.eval_shape(lambda: init_guess(jax.random.key(0), config))
    check_arrays(path, arrays, traverse_util.flatten_dict(wanted, sep="/"))
    arrays = {name: np.asarray(x, np.float32) for name, x in arrays.items()}
    return KernelGuess(traverse_util.unflatten_dict(arrays, sep="/"), config)


@functools.cache
def shipped_guess() -> KernelGuess:
    """The network that ships with the package, read once."""
    return load_guess()

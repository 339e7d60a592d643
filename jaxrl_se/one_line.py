"""A synthetic environment as one line of text: weights of 8 bits in base64.

    base64:<header><sizes and ranges><scale and weights of each array><checksum>

All is little-endian. Each array of weights is a float32 scale and one signed byte per
weight, `weight = scale * byte`. What is not in the text is the default of
`SyntheticConfig`.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from envs.spaces import Spaces
from jaxrl_se.networks import check_weights
from jaxrl_se.obs_ranges import checked
from jaxrl_se.synthetic_env import (
    VARIANTS,
    SyntheticConfig,
    SyntheticEnv,
    SyntheticParams,
)

PREFIX = "base64:"
_VERSION = 1
# Their places are what the text holds: append, and change nothing.
_ACTIVATIONS = ("tanh", "relu", "leaky_relu", "prelu")
_STARTS = ("learned", "normal")
_VARIANTS = ("one-step", "multi-step")
_HEADER = struct.Struct("<BBBBBBHff")
_CHECKSUM = struct.Struct("<H")
_FLAGS = ("reward_heads", "learn_termination", "soft_termination", "advantage")


def to_line(env: SyntheticEnv, params: SyntheticParams) -> str:
    """The text that `jaxrl_se.load` makes the environment of again.

    Args:
      env: A `OneStepEnv` or `MultiStepEnv` whose initial states are not its task's.
      params: Its params; weights are rounded to 255 levels per array.

    Raises:
      ValueError: The environment has something that the text has no place for, or its
        weights are not finite.
    """
    if not isinstance(env, SyntheticEnv):
        raise ValueError(
            f"env must be a synthetic environment, got {type(env).__name__}"
        )
    check_weights(env, params)
    config, spaces = env.config, env.spaces
    plain = Spaces(
        spaces.obs_size, spaces.num_actions, spaces.action_low, spaces.action_high
    )
    if spaces != plain or max(spaces.obs_size, spaces.action_size) > 255:
        raise ValueError(f"env: a line has no place for the spaces {spaces}")
    if params.starts is not None:
        raise ValueError("params: a line has no place for starts that were met")
    for name, known in (
        ("variant", _VARIANTS),
        ("activation", _ACTIVATIONS),
        ("initial_states", _STARTS),
    ):
        if getattr(config, name) not in known:
            raise ValueError(
                f"env: {name} must be one of {', '.join(known)} for a line, got "
                f"{getattr(config, name)!r}"
            )
    flags = sum(getattr(config, name) << place for place, name in enumerate(_FLAGS))
    is_discrete = spaces.num_actions is not None
    ranges = params.obs_range
    flags |= is_discrete << 5 | (ranges is not None) << 6
    choices = (
        _VARIANTS.index(config.variant)
        | _STARTS.index(config.initial_states) << 1
        | _ACTIVATIONS.index(config.activation) << 2
    )
    parts = [
        _HEADER.pack(
            _VERSION,
            flags,
            choices,
            spaces.obs_size,
            spaces.action_size,
            len(config.hidden_sizes),
            int(params.max_steps_in_episode),
            config.reward_bound or 0.0,
            config.obs_bound or 0.0,
        ),
        np.asarray(config.hidden_sizes, "<u2").tobytes(),
    ]
    if not is_discrete:
        bounds = (spaces.action_low, spaces.action_high)
        parts.append(np.asarray(bounds, "<f4").tobytes())
    if ranges is not None:
        parts.append(np.asarray(ranges, "<f4").tobytes())
    parts += [_packed(np.asarray(leaf)) for leaf in jax.tree.leaves(params.weights)]
    data = b"".join(parts)
    data += _CHECKSUM.pack(zlib.crc32(data) & 0xFFFF)
    return PREFIX + base64.b64encode(data).decode()


def is_line(text: str) -> bool:
    """Whether a text is meant to be one of `to_line`'s: as long ones may also be names.

    Its first word may be missing, where what follows is whole.
    """
    if text.lstrip().startswith(PREFIX):
        return True
    try:
        from_line(text)
    except ValueError:
        return False
    return True


def from_line(text: str) -> tuple[SyntheticEnv, SyntheticParams]:
    """The environment of a text that `to_line` wrote.

    Raises:
      ValueError: The text is damaged, or of another version.
    """
    try:
        # Chats and papers break lines.
        text = "".join(text.split()).removeprefix(PREFIX)
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"text must be base64 after {PREFIX!r} ({error})") from error
    size = len(data) - _CHECKSUM.size
    if size < _HEADER.size:
        raise ValueError(f"text must hold a whole environment, got {len(data)} bytes")
    data, (checksum,) = data[:size], _CHECKSUM.unpack(data[size:])
    if zlib.crc32(data) & 0xFFFF != checksum:
        raise ValueError("text is damaged: its checksum does not fit")
    if data[0] != _VERSION:
        raise ValueError(f"text must be of version {_VERSION}, got {data[0]}")
    try:
        return _read(_Reader(data))
    except (IndexError, struct.error) as error:
        raise ValueError(f"text does not describe an environment ({error})") from error


@dataclasses.dataclass
class _Reader:
    data: bytes
    place: int = 0

    def take(self, dtype: str, *shape: int) -> np.ndarray:
        count = int(np.prod(shape, dtype=int))
        end = self.place + count * np.dtype(dtype).itemsize
        if end > len(self.data):
            raise IndexError("it ends too early")
        found = np.frombuffer(self.data[self.place : end], dtype)
        self.place = end
        return found.reshape(shape)


def _read(reader: _Reader) -> tuple[SyntheticEnv, SyntheticParams]:
    header = reader.take("u1", _HEADER.size).tobytes()
    _, flags, choices, obs_size, action_size, num_hidden, *rest = _HEADER.unpack(header)
    max_steps, reward_bound, obs_bound = rest
    hidden_sizes = tuple(reader.take("<u2", num_hidden).tolist())
    spaces = Spaces(obs_size, action_size)
    if not flags >> 5 & 1:
        low, high = reader.take("<f4", 2, action_size).tolist()
        spaces = Spaces(obs_size, None, tuple(low), tuple(high))
    ranges = reader.take("<f4", obs_size, 2) if flags >> 6 & 1 else None
    variant = _VARIANTS[choices & 1]
    ranges = None if ranges is None else tuple(map(tuple, ranges.tolist()))
    config = SyntheticConfig(
        variant=variant,
        hidden_sizes=hidden_sizes,
        activation=_ACTIVATIONS[choices >> 2],
        initial_states=_STARTS[choices >> 1 & 1],
        reward_bound=reward_bound or None,
        obs_bound=obs_bound or None,
        obs_range=ranges,
        **{name: bool(flags >> place & 1) for place, name in enumerate(_FLAGS)},
        **({"max_steps": max_steps} if variant == "multi-step" else {}),
    )
    env = config.build(spaces)
    leaves, structure = jax.tree.flatten(env.default_params.weights)
    weights = [_unpacked(reader, leaf.shape) for leaf in leaves]
    if reader.place != len(reader.data):
        raise IndexError("it goes on after its end")
    return env, dataclasses.replace(
        env.default_params,
        weights=jax.tree.unflatten(structure, weights),
        max_steps_in_episode=max_steps,
        obs_range=None if ranges is None else checked(ranges, obs_size),
    )


def _packed(array: np.ndarray) -> bytes:
    """A scale and one byte per weight."""
    largest = float(np.abs(array).max(initial=0.0))
    if not np.isfinite(largest):
        raise ValueError("params.weights contains NaN or infinity")
    scale = np.float32(largest / 127 or 1.0)
    levels = np.clip(np.rint(array / scale), -127, 127)
    return scale.astype("<f4").tobytes() + levels.astype(np.int8).tobytes()


def _unpacked(reader: _Reader, shape: tuple[int, ...]) -> jax.Array:
    scale = reader.take("<f4", 1)[0]
    return jnp.asarray(np.float32(scale) * reader.take("i1", *shape), jnp.float32)


assert set(_VARIANTS) == set(VARIANTS)

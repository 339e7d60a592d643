"""Keys from seeds: wherever a key is taken, an integer is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_key(key: Any) -> jax.Array:
    """A typed PRNG key from a seed, a key, or a key of the old kind.

    Args:
        key: An integer; a typed key, of any shape; or the uint32 data of keys, as
            ``jax.random.PRNGKey`` gives it.

    Returns:
        A typed key of the same shape, `()` for a seed.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return jax.random.key(int(key))
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            return key
        if key.dtype == jnp.uint32 and key.ndim:
            return jax.random.wrap_key_data(key)
    raise ValueError(f"key must be an integer or a PRNG key, got {key!r}")

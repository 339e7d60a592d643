"""The common shape of synthetic data: padded rows of one task, context and queries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.context import Context

MAX_STATES = 16
MAX_ACTIONS = 6


@struct.dataclass
class Dataset:
    """Rows of one task: the first are a context, the others are asked for.

    Attributes:
        rows: All of them as a `Context` whose sizes are MAX_STATES and MAX_ACTIONS;
            columns and rows that are not in use are 0.
        obs_mask: Observation columns in use, [MAX_STATES].
        num_context: Static; rows that belong to the context.
    """

    rows: Context
    obs_mask: jax.Array
    num_context: int = struct.field(pytree_node=False)

    @property
    def context(self) -> Context:
        """What a model is conditioned on."""
        return jax.tree.map(lambda x: x[: self.num_context], self.rows)

    @property
    def queries(self) -> Context:
        """What it is asked for."""
        return jax.tree.map(lambda x: x[self.num_context :], self.rows)


def choose_rows(
    u: jax.Array,
    rows: Context,
    is_valid: jax.Array,
    is_query: jax.Array,
    num_context: int,
    num_query: int,
) -> Context:
    """Choose context and queries among the rows of a rollout.

    Args:
        u: Uniform draws, [R]; the rows of the largest ones are chosen.
        rows: [R, ...].
        is_valid: Rows that may be chosen, [R].
        is_query: Rows kept for queries; the others are for the context, [R].
        num_context: Rows to choose; fewer valid ones leave padding.
        num_query: The same for queries.
    """

    def choose(allowed, number):
        score, index = jax.lax.top_k(jnp.where(allowed, u, -1.0), number)
        return index, score >= 0

    context, in_context = choose(is_valid & ~is_query, num_context)
    query, in_query = choose(is_valid & is_query, num_query)
    index = jnp.concatenate([context, query])
    mask = jnp.concatenate([in_context, in_query]).astype(jnp.float32)

    def take(x):
        return x[index] * mask.reshape(-1, *[1] * (x.ndim - 1))

    return jax.tree.map(take, rows).replace(mask=mask)

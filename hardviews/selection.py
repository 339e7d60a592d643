"""Hard views: of several views of a picture, the two that the loss finds hardest.

Source: Ferreira et al., *Beyond Random Augmentations: Pretraining with Hard Views*
(ICLR 2025).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl_runs.values import Function


def _view(outputs: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], outputs)


@struct.dataclass
class HardPairs:
    """Which two views of each picture were kept.

    Legend: `B` pictures, `V` views, `P = V (V - 1) / 2` pairs.

    Attributes:
        first: Index of the first view, int32 `[B]`.
        second: Index of the second view, above the first one, int32 `[B]`.
        losses: Of all pairs, `[P, B]`; (0, 1), (0, 2), ..., (V - 2, V - 1).
    """

    first: jax.Array
    second: jax.Array
    losses: jax.Array

    def take(self, views: Any) -> Any:
        """Keeps the two views.

        Args:
            views: A pytree of `[V, B, ...]`.

        Returns:
            The pytree with leaves `[2, B, ...]`.

        Raises:
            ValueError: A leaf is of another number of views or pictures.
        """
        number = self.losses.shape[0]
        wanted = round((1 + math.sqrt(1 + 8 * number)) / 2), len(self.first)
        for leaf in jax.tree.leaves(views):
            if jnp.shape(leaf)[:2] != wanted:
                raise ValueError(
                    f"views must have leaves [views, batch, ...], {wanted} as when the "
                    f"pairs were chosen, got shape {jnp.shape(leaf)}{_stack(views)}"
                )
        which = jnp.stack([self.first, self.second])
        rows = jnp.arange(which.shape[1])
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[which, rows], views)


def _stack(views: Any) -> str:
    """What to do with a list of views."""
    is_list = isinstance(views, list | tuple) and len(views) > 1
    return "; stack a list of views: jnp.stack(views)" if is_list else ""


def pair_losses(
    pair_loss: Callable[[Any, Any], jax.Array], first: Any, second: Any
) -> jax.Array:
    """Losses of two views, checked.

    Args:
        pair_loss: `(outputs of a view, outputs of another) -> loss [B]`.
        first: A pytree of `[B, ...]`.
        second: The same.

    Returns:
        `[B]`.

    Raises:
        ValueError: It returns something else, or leaves differ in `B`.
    """
    numbers = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(first)}
    if len(numbers) != 1 or numbers == {()}:
        raise ValueError(
            "outputs must have leaves [batch, ...] of one view, got leading axes "
            f"{sorted(numbers)}"
        )
    wanted = numbers.pop()
    losses: Any = pair_loss(first, second)
    is_number = hasattr(losses, "dtype") and jnp.issubdtype(losses.dtype, jnp.floating)
    if jnp.shape(losses) != wanted or not is_number:
        found = f"shape {jnp.shape(losses)}"
        if not is_number:
            found = f"{getattr(losses, 'dtype', type(losses).__name__)} of {found}"
        raise ValueError(
            f"pair_loss must return one loss per picture, floating point of shape "
            f"{wanted}, got {found}; means and sums are taken over the last axis alone"
        )
    return losses


def hardest_pairs(
    pair_loss: Callable[[Any, Any], jax.Array], outputs: Any
) -> HardPairs:
    """The pair of highest loss of each picture.

    Args:
        pair_loss: `(outputs of a view, outputs of another) -> loss [B]`; of several
            alike, the first pair is kept.
        outputs: What the views are compared by, a pytree of `[V, B, ...]`, V >= 2.

    Returns:
        The pairs; with two views the only one there is.

    Raises:
        ValueError: There are fewer than two views, leaves differ in their number, or
            the loss is not one number per picture.
    """
    Function("(first, second) -> [B]").check("pair_loss", pair_loss)
    numbers = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(outputs)}
    if len(numbers) != 1 or min(numbers) < (2,):
        raise ValueError(
            "outputs must have leaves [views, batch, ...] of two views or more, got "
            f"leading axes {sorted(numbers)}"
        )
    outputs = jax.tree.map(jnp.asarray, outputs)
    num_views = numbers.pop()[0]
    pairs = np.array(list(itertools.combinations(range(num_views), 2)), np.int32)

    each = [_view(outputs, index) for index in range(num_views)]
    try:
        losses = [pair_losses(pair_loss, each[n], each[m]) for n, m in pairs.tolist()]
    except (TypeError, ValueError) as error:
        if not _stack(outputs):
            raise
        raise ValueError(f"{error}{_stack(outputs)}") from error
    losses = jnp.stack(losses)
    hardest = jnp.asarray(pairs)[jnp.argmax(losses, axis=0)]
    return HardPairs(hardest[:, 0], hardest[:, 1], losses)

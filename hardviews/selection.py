"""Hard views: of several views of a picture, the two that the loss finds hardest.

Source: Ferreira et al., *Beyond Random Augmentations: Pretraining with Hard Views*
(ICLR 2025).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


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
        """
        which = jnp.stack([self.first, self.second])
        rows = jnp.arange(which.shape[1])
        return jax.tree.map(lambda leaf: leaf[which, rows], views)


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
        ValueError: There are fewer than two views, or leaves differ in their number.
    """
    numbers = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(outputs)}
    if len(numbers) != 1 or min(numbers) < (2,):
        raise ValueError(
            "outputs must have leaves [views, batch, ...] of two views or more, got "
            f"leading axes {sorted(numbers)}"
        )
    num_views = numbers.pop()[0]
    pairs = np.array(list(itertools.combinations(range(num_views), 2)), np.int32)

    each = [_view(outputs, index) for index in range(num_views)]
    losses = jnp.stack([pair_loss(each[n], each[m]) for n, m in pairs.tolist()])
    hardest = jnp.asarray(pairs)[jnp.argmax(losses, axis=0)]
    return HardPairs(hardest[:, 0], hardest[:, 1], losses)

"""Network inputs: honestly scaled hyperparameters, meta-features and curve summaries.

Every column of the search space reaches the network: one-hot columns as they are,
numeric ones on a logarithmic scale where the space says so, standardised with the
statistics of the meta-training runs, and with a flag of their own where a value may be
absent. The curve enters as summaries that do not depend on the length of the budget.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from finetune.space import Categorical, Ordinal, SearchSpace

NUM_HISTORY_FEATURES = 11
NUM_TIME_FEATURES = 5


class Encoder(struct.PyTreeNode):
    """Scaling of configurations and meta-features.

    Legend: ``H`` columns of the space, ``M`` meta-features.

    Attributes:
        log: Which columns are seen as logarithms, bool ``[H]``.
        floor: Smallest value before the logarithm is taken, ``[H]``.
        mean: Mean of the (log-)columns, 0 for one-hot columns, ``[H]``.
        scale: Standard deviation, 1 for one-hot columns, ``[H]``.
        meta_mean: Mean of log(1 + meta-feature), ``[M]``.
        meta_scale: Standard deviation of log(1 + meta-feature), ``[M]``.
        absent_columns: Columns that get an absence flag.
    """

    log: jax.Array
    floor: jax.Array
    mean: jax.Array
    scale: jax.Array
    meta_mean: jax.Array
    meta_scale: jax.Array
    absent_columns: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def num_outputs(self) -> int:
        """Width of an encoded configuration with its meta-features."""
        return self.log.shape[-1] + len(self.absent_columns) + self.meta_mean.shape[-1]

    @functools.partial(jax.jit, inline=True)
    def __call__(self, vector: ArrayLike, meta_features: ArrayLike) -> jax.Array:
        """Encode configurations.

        Args:
            vector: ``[..., H]``, NaN where absent.
            meta_features: ``[..., M]``, raw.

        Returns:
            ``[..., num_outputs]``, finite.
        """
        vector, meta_features = jnp.asarray(vector), jnp.asarray(meta_features)
        absent = jnp.isnan(vector)
        filled = jnp.where(absent, 1.0, vector)
        logged = jnp.where(self.log, jnp.log10(jnp.maximum(filled, self.floor)), filled)
        scaled = jnp.where(absent, 0.0, (logged - self.mean) / self.scale)
        flags = absent[..., list(self.absent_columns)].astype(scaled.dtype)
        meta = (jnp.log1p(jnp.maximum(meta_features, 0)) - self.meta_mean) / (
            self.meta_scale
        )
        meta = jnp.broadcast_to(
            jnp.clip(meta, -3, 3), (*scaled.shape[:-1], meta.shape[-1])
        )
        return jnp.concatenate([scaled, flags, meta], -1)


def fit_encoder(
    space: SearchSpace, vectors: np.ndarray, meta_features: np.ndarray
) -> Encoder:
    """Fit the scaling on meta-training runs.

    Args:
        space: The search space.
        vectors: Configurations ``[N, H]``; an empty table scales by the space alone.
        meta_features: Of the meta-training datasets, ``[D, M]``.
    """
    log, floor, onehot, absent, column = [], [], [], [], 0
    for h in space.hyperparameters:
        for _ in h.columns:
            is_onehot = isinstance(h, Categorical)
            is_log = not isinstance(h, Categorical) and h.log
            smallest = 1.0
            if not isinstance(h, Categorical) and h.log:
                values = h.choices if isinstance(h, Ordinal) else (h.low,)
                smallest = min(v for v in values if v > 0)
                if isinstance(h, Ordinal) and min(values) <= 0:
                    smallest /= 10  # zero stands one decade below the smallest choice
            if not isinstance(h, Categorical) and (
                h.optional or h.condition is not None
            ):
                absent.append(column)
            log.append(is_log)
            floor.append(smallest)
            onehot.append(is_onehot)
            column += 1
    log, floor, onehot = np.asarray(log), np.asarray(floor), np.asarray(onehot)
    with np.errstate(invalid="ignore"):
        values = np.where(log, np.log10(np.maximum(vectors, floor)), vectors)
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    var = np.where(known, (values - mean) ** 2, 0).sum(0) / count
    scale = np.where(var > 1e-12, np.sqrt(var), 1.0)
    meta = np.log1p(np.maximum(meta_features, 0))
    meta_scale = meta.std(0)
    return Encoder(
        log=jnp.asarray(log),
        floor=jnp.asarray(floor, jnp.float32),
        mean=jnp.asarray(np.where(onehot, 0.0, mean), jnp.float32),
        scale=jnp.asarray(np.where(onehot, 1.0, scale), jnp.float32),
        meta_mean=jnp.asarray(meta.mean(0), jnp.float32),
        meta_scale=jnp.asarray(np.where(meta_scale > 1e-6, meta_scale, 1), jnp.float32),
        absent_columns=tuple(absent),
    )


def history_features(curve: jax.Array) -> jax.Array:
    """Summarise what is known of a run after each number of observed epochs.

    Args:
        curve: Accuracies ``[T]``; row ``s`` of the result looks at the first ``s``.

    Returns:
        ``[T, NUM_HISTORY_FEATURES]``; feature 0 is the last value, and row 0, before
        the first epoch, is zero.
    """
    num_epochs = curve.shape[0]
    start = jnp.arange(num_epochs)
    epoch = jnp.arange(num_epochs)
    known = jnp.where(epoch < start[:, None], curve, 0.0)  # [T starts, T epochs]

    def at(index):
        index = jnp.clip(index, 0, jnp.maximum(start - 1, 0))
        return jnp.where(start > 0, curve[index], 0.0)

    last = at(start - 1)
    best = jnp.max(known, 1)
    recent = (epoch < start[:, None]) & (epoch >= start[:, None] - 5) & (epoch > 0)
    steps = jnp.abs(jnp.diff(curve, prepend=curve[:1]))
    roughness = (steps * recent).sum(1) / jnp.maximum(recent.sum(1), 1)
    since_best = jnp.maximum(start - 1 - jnp.argmax(known, 1), 0)
    return jnp.stack(
        [
            last,
            (start > 0).astype(curve.dtype),
            (start == 1).astype(curve.dtype),
            best - last,
            at(0 * start),
            last - at(start - 2),
            last - at(start - 4),
            last - at(start // 2),
            last - at(start // 4),
            10 * roughness,
            since_best / num_epochs,
        ],
        axis=1,
    )


def time_features(start: jax.Array, target: jax.Array, num_epochs: int) -> jax.Array:
    """Describe the step from ``start`` observed epochs to the epoch ``target``.

    Args:
        start: Number of observed epochs, int ``[...]``.
        target: Epoch to be predicted, above ``start``, int ``[...]``.
        num_epochs: The budget.

    Returns:
        ``[..., NUM_TIME_FEATURES]``.
    """
    budget = float(num_epochs)
    ahead = jnp.maximum(target - start, 1)
    return jnp.stack(
        [
            start / budget,
            jnp.log1p(1.0 * start) / np.log1p(budget),
            target / budget,
            jnp.log1p(1.0 * target) / np.log1p(budget),
            jnp.log(1.0 * ahead) / np.log(budget + 1),
        ],
        axis=-1,
    )

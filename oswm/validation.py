"""How well models predict tasks of the prior that no training has seen.

The error of a dataset is that of the reports on real tasks: squared error of the mean
over the variance of the column in the context, averaged over queries and over the
columns that vary there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from oswm.closed_form import targets_of
from oswm.context import Context, Scale
from oswm.prior.dataset import Dataset
from oswm.prior.default import draw_batch

_LEAST_ERROR = 1e-10  # float32 rounding; below it no model is better than another


def held_out(
    num_datasets: int,
    num_context: int,
    num_query: int,
    draw: Callable[..., Dataset] = draw_batch,
    seed: int = 0,
) -> Dataset:
    """Draw validation datasets, from keys that no training uses.

    Args:
        num_datasets: How many.
        num_context: Most rows of a context.
        num_query: Most queries.
        draw: The prior.
        seed: 0 for what is looked at while something is being chosen, others for
            reports.
    """
    key = jax.random.fold_in(jax.random.key(20_000_000), seed)
    draw = jax.jit(draw, static_argnums=(1, 2, 3))
    return draw(key, num_datasets, num_context, num_query)


def normalized_error(context: Context, queries: Context, predict: Any) -> jax.Array:
    """Error of one dataset.

    Args:
        context: What the model was conditioned on.
        queries: What it is asked for; `mask` says which rows count.
        predict: (obs [S], action [A]) -> `Prediction`.
    """
    prediction = jax.vmap(predict)(queries.obs, queries.action)
    target = jnp.concatenate([queries.next_obs, queries.reward[:, None]], 1)
    mean = jnp.concatenate(
        [prediction.next_obs_mean, prediction.reward_mean[:, None]], 1
    )
    seen = jnp.concatenate([context.next_obs, context.reward[:, None]], 1)
    scale = Scale.of(seen, context.mask)
    normalized = context.mask[:, None] * scale.normalize(seen)
    changes = context.mask[:, None] * targets_of(context)
    is_live = jnp.any(normalized != 0, 0) & jnp.any(changes != 0, 0)
    weight = queries.mask[:, None] * is_live
    error = jnp.square((mean - target) / scale.std)
    return jnp.sum(weight * error) / jnp.maximum(jnp.sum(weight), 1.0)


def errors_of(model: Any, datasets: Dataset) -> np.ndarray:
    """Errors [K] of a world model on datasets, NaN where a dataset has no queries."""
    weights = getattr(model, "weights", None)
    if weights is not None:  # Traced, so that other weights compile nothing.
        model = dataclasses.replace(model, weights=None)
    datasets = jax.device_get(datasets)  # whose slices compile nothing
    count = jax.tree.leaves(datasets)[0].shape[0]
    found = [
        _one_error(model, weights, jax.tree.map(lambda x, i=i: x[i], datasets))
        for i in range(count)
    ]
    return np.asarray(jax.device_get(found))


@functools.partial(jax.jit, static_argnums=0)
def _one_error(model, weights, dataset: Dataset) -> jax.Array:
    if weights is not None:
        model = dataclasses.replace(model, weights=weights)
    cache = model.fit(dataset.context)
    error = normalized_error(
        dataset.context, dataset.queries, lambda o, a: model.predict(cache, o, a)
    )
    return jnp.where(jnp.sum(dataset.queries.mask) > 0, error, jnp.nan)


def compare(errors: Mapping[str, np.ndarray], name: str = "oswm") -> dict[str, float]:
    """Summarise errors by model.

    Returns:
        Geometric means `error_MODEL`, and `beats_MODEL`, the shares of datasets where
        the model `name` is better (ties below rounding count half).
    """
    found: dict[str, float] = {}
    ours = np.maximum(errors[name], _LEAST_ERROR)
    for other, values in errors.items():
        theirs = np.maximum(values, _LEAST_ERROR)
        keep = np.isfinite(ours) & np.isfinite(theirs)
        found[f"error_{other}"] = float(np.exp(np.log(theirs[keep]).mean()))
        if other != name:
            better = (ours < theirs) + 0.5 * (ours == theirs)
            found[f"beats_{other}"] = float(better[keep].mean())
    return found

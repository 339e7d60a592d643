"""Rewards and terminations, drawn for rows that were rolled out already.

Goals and limits are taken from what the rollout visited, so that they are in reach.
Everything looks at standardised features: what is observed, and angles also where their
cosine and sine are observed.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from oswm.prior.draws import Draws
from oswm.prior.random_networks import apply_network, make_network, num_draws

CONSTANT, NETWORK, QUADRATIC, ABSOLUTE, DISTANCE, LINEAR, SPARSE = range(7)
_NO_END, _LIMIT, _GOAL = range(3)


def draw_outcomes(
    draws: Draws,
    features: jax.Array,
    next_features: jax.Array,
    feature_mask: jax.Array,
    effect: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw a reward function and a termination rule, and apply them.

    Args:
        draws: Random numbers.
        features: Standardised features before each step, [E, T, F].
        next_features: After it.
        feature_mask: Features in use, bool [F].
        effect: Of the actions, [E, T, C].

    Returns:
        Rewards [E, T], whether a row ends its episode [E, T], and whether the state
        before it would have, [E, T].
    """
    num_features = feature_mask.shape[0]
    seen = next_features.reshape(-1, num_features)
    goal = seen[draws.below(len(seen))]
    few = draws.chance(0.4, (num_features,)) & feature_mask
    any_one = jnp.arange(num_features) == draws.one_of(feature_mask)
    relevance = (few | any_one) * draws.log_uniform(0.1, 1.0, (num_features,))

    def distance(x):
        return jnp.sqrt(jnp.square(x - goal) @ jnp.square(relevance) + 1e-12)

    distances = distance(next_features)
    # The closest of 8 to 100 rows: a goal that is met about as rarely.
    share = draws.log_uniform(8.0, 100.0) / distances.size
    is_tried = draws.chance(share, distances.shape)
    radius = jnp.maximum(jnp.min(jnp.where(is_tried, distances, jnp.inf)), 1e-3)
    radius = jnp.where(jnp.isfinite(radius), radius, 1e-3)
    limit = _limits(draws, seen, feature_mask)
    kind = draws.choice((0.35, 0.4, 0.25))

    def ends(x, far):
        return jnp.where(kind == _LIMIT, limit(x), (far <= radius) & (kind == _GOAL))

    terminated = ends(next_features, distances)
    reward = _reward(draws, features, next_features, effect, goal, relevance, radius)
    bonus = 3 * draws.normal() * draws.chance(0.4)
    unit = draws.log_uniform(0.01, 100.0)
    return (
        unit * (reward + bonus * terminated),
        terminated,
        ends(features, distance(features)),
    )


def _limits(draws: Draws, seen, feature_mask):
    """One or two features beyond (either side or both) what is seen of them mostly."""
    which = draws.one_of(feature_mask, (2,))
    two_sided = draws.chance(0.6, (2,))
    both = draws.chance(0.5)

    def measure(x):
        values = x[..., which]
        return jnp.where(two_sided, jnp.abs(values), values)

    # The largest of 5 to 60 rows is exceeded by about one row in as many.
    share = draws.log_uniform(5.0, 60.0, (2,)) / len(seen)
    is_tried = draws.uniform(shape=(len(seen), 2)) < share
    bounds = jnp.max(jnp.where(is_tried, measure(seen), -jnp.inf), 0)
    bounds = jnp.where(jnp.isfinite(bounds), bounds, jnp.inf)

    def limit(x):
        beyond = measure(x) > bounds
        return beyond[..., 0] | (both & beyond[..., 1])

    return limit


def _reward(draws, features, next_features, effect, goal, relevance, radius):
    kind = draws.choice((0.14, 0.2, 0.16, 0.14, 0.12, 0.1, 0.14))
    after = draws.chance(0.5)
    at = jnp.where(after, next_features, features)
    apart = relevance * (at - goal)
    effort = jnp.square(effect).sum(-1)
    price = draws.chance(0.5) * draws.log_uniform(0.001, 0.3)
    inputs = jnp.concatenate([features, next_features, effect], -1)
    ones = jnp.ones(effect.shape[-1])
    is_input = (jnp.concatenate([relevance, relevance, ones]) > 0).astype(jnp.float32)
    u = draws.uniform(shape=(num_draws(len(is_input)),))
    network = make_network(u, is_input)
    w_in = network.w_in * draws.log_uniform(1.0, 4.0)
    network = dataclasses.replace(network, w_in=w_in)
    of_network = jax.vmap(jax.vmap(apply_network, (None, 0)), (None, 0))
    squared = jnp.square(apart).sum(-1)
    near = jnp.sqrt(jnp.square(relevance * (next_features - goal)).sum(-1)) <= radius
    table = jnp.stack(
        [
            jnp.ones(effort.shape),
            of_network(network, inputs),
            -squared,
            -jnp.abs(apart).sum(-1),
            -jnp.sqrt(squared + 1e-12),
            (at * relevance).sum(-1),
            near * 1.0 - after,
        ]
    )
    has_price = (kind != CONSTANT) & (kind != SPARSE)
    return table[kind] - has_price * price * effort

"""Our prior: many families of dynamics, rewards and endings, seen as users see theirs.

A dataset holds rows of episodes of varying length, by random or mixed policies, under
observations of any scale; its queries come from the same episodes as its context or
from others. What families there are: ``smooth.py``, ``mechanics.py``, both together
(the networks then see the coordinates), ``chaos.py`` and ``grid.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from oswm.context import Context, Scale
from oswm.prior import chaos, grid, mechanics, smooth
from oswm.prior.actions import Actions, init_actions, init_policies
from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES, Dataset, choose_rows
from oswm.prior.draws import Draws
from oswm.prior.outcomes import draw_outcomes

EPISODE_STEPS = 40
_NUM_COLUMNS = mechanics.NUM_OBS + smooth.NUM_DIMENSIONS  # most that a family shows
_NUM_TASK_DRAWS = 8192  # for a task's constants
_SPARE_ROWS = 3  # rows rolled out per row that is drawn, at least


class Family(NamedTuple):
    """How a family is drawn, started, stepped and seen; functions of one episode.

    Attributes:
        init: `Draws` -> parameters and actions.
        reset: Uniform draws [16], parameters -> state.
        step: Uniform draws [12], parameters, state, action, its effect -> state.
        observe: Parameters, state -> observation [D] and angles [4].
        obs_mask: Parameters -> observation columns in use, bool [D].
    """

    init: Callable[[Draws], tuple[Any, Actions]]
    reset: Callable
    step: Callable
    observe: Callable
    obs_mask: Callable


_NUM_RESET_DRAWS = 2 * mechanics.NUM_COORDINATES + smooth.NUM_DIMENSIONS
_NUM_STEP_DRAWS = mechanics.NUM_COORDINATES + smooth.NUM_DIMENSIONS
_NUM_ACT_DRAWS = MAX_ACTIONS + 1


def _init_continuous(draws):
    kind = draws.choice((0.4, 0.4, 0.2))  # Networks, coordinates, both.
    most = jnp.where(kind == 2, 2, mechanics.NUM_COORDINATES)
    coordinates = (1 + draws.below(most)) * (kind > 0)
    dimensions = (1 + draws.below(smooth.NUM_DIMENSIONS)) * (kind != 1)
    system = mechanics.init_mechanics(draws, coordinates)
    drifting = smooth.init_smooth(draws, dimensions, system.obs_mask)
    noise = draws.chance(0.25) * draws.log_uniform(1e-3, 0.1)
    return (system, drifting, noise), init_actions(draws)


def _reset_continuous(u, params):
    system, drifting, _ = params
    pairs = mechanics.reset_mechanics(
        u[: -smooth.NUM_DIMENSIONS].reshape(2, -1), system
    )
    return pairs, smooth.reset_smooth(u[-smooth.NUM_DIMENSIONS :], drifting)


def _step_continuous(u, params, state, action, effect):
    system, drifting, noise = params
    pairs, z = state
    seen = mechanics.observe_mechanics(system, pairs)
    new = mechanics.step_mechanics(system, pairs, effect)
    z = smooth.step_smooth(drifting, z, seen, effect)
    # Uniform noise of unit variance. It disturbs velocities and drifting dimensions;
    # positions follow.
    shake = noise * jnp.sqrt(12.0) * (u - 0.5)
    velocity = shake[: mechanics.NUM_COORDINATES] * system.is_used
    z = z + shake[mechanics.NUM_COORDINATES :] * drifting.is_used
    return new.at[1].add(velocity), z


def _observe_continuous(params, state):
    system, _, _ = params
    pairs, z = state
    angles = pairs[0] * system.is_angle
    return jnp.concatenate([mechanics.observe_mechanics(system, pairs), z]), angles


def _mask_continuous(params):
    system, drifting, _ = params
    return jnp.concatenate([system.obs_mask, drifting.is_used])


def _without_angles(params, state):
    return state, jnp.zeros(mechanics.NUM_COORDINATES)


CONTINUOUS = Family(
    _init_continuous,
    _reset_continuous,
    _step_continuous,
    _observe_continuous,
    _mask_continuous,
)
CHAOS = Family(
    init=lambda draws: (chaos.init_chaos(draws), init_actions(draws)),
    reset=lambda u, ring: chaos.reset_chaos(u[: chaos.NUM_VARIABLES], ring),
    step=lambda u, ring, state, action, effect: chaos.step_chaos(ring, state, effect),
    observe=_without_angles,
    obs_mask=lambda ring: ring.is_used,
)
GRID = Family(
    init=lambda draws: (grid.init_grid(draws), init_actions(draws, discrete=True)),
    reset=lambda u, world: grid.reset_grid(u[: grid.NUM_AXES], world),
    step=lambda u, world, state, action, effect: grid.step_grid(
        u, world, state, action
    ),
    observe=_without_angles,
    obs_mask=lambda world: world.obs_mask,
)
# Shares of a batch, of 16 datasets.
FAMILIES = ((CONTINUOUS, 12), (CHAOS, 1), (GRID, 3))


@struct.dataclass
class PriorRollout:
    """Episodes of one task, without rewards: leading axes [E, T] unless noted.

    Attributes:
        obs: Observations in the family's own columns and units, [E, T, 20].
        angle: Angles, seen or not, [E, T, 4].
        next_obs: Observations after the step.
        next_angle: Angles after it.
        action: Action vectors, [E, T, MAX_ACTIONS].
        effect: What they do, [E, T, NUM_CHANNELS].
        obs_mask: Columns in use, bool [20].
    """

    obs: jax.Array
    angle: jax.Array
    next_obs: jax.Array
    next_angle: jax.Array
    action: jax.Array
    effect: jax.Array
    obs_mask: jax.Array


def draw_batch(
    key: jax.Array, num_datasets: int, num_context: int, num_query: int
) -> Dataset:
    """Draw datasets of all families.

    Args:
        key: Random key.
        num_datasets: Static; at least one per family.
        num_context: Static; most rows of a context (often fewer are in use).
        num_query: Static; most queries.

    Returns:
        Datasets with a leading axis [num_datasets] on each leaf.

    Raises:
        ValueError: If there are fewer datasets than families.
    """
    total = sum(share for _, share in FAMILIES)
    counts = [max(1, num_datasets * share // total) for _, share in FAMILIES]
    counts[0] = num_datasets - sum(counts[1:])
    if counts[0] < 1:
        raise ValueError(
            f"num_datasets must be at least {len(FAMILIES)}, got {num_datasets}"
        )
    num_episodes = episodes_of(num_context + num_query)
    family_key, row_key = jax.random.split(key)
    parts = []
    for i, ((family, _), count) in enumerate(zip(FAMILIES, counts, strict=True)):
        keys = jax.random.split(jax.random.fold_in(family_key, i), count)
        draw = jax.vmap(lambda k, f=family: draw_rollout(k, f, num_episodes))
        parts.append(draw(keys))
    rollouts = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    keys = jax.random.split(row_key, num_datasets)
    return jax.vmap(lambda k, r: draw_rows(k, r, num_context, num_query))(
        keys, rollouts
    )


def episodes_of(num_rows: int) -> int:
    """How many episodes of EPISODE_STEPS are rolled out for a dataset's rows."""
    return max(12, -(-_SPARE_ROWS * num_rows // EPISODE_STEPS))


def is_held_out(num_episodes: int) -> jax.Array:
    """Episodes whose rows are queries where whole episodes are held out, bool [E]."""
    return jnp.arange(num_episodes) % 4 == 0


def draw_rollout(key: jax.Array, family: Family, num_episodes: int) -> PriorRollout:
    """Draw a task of a family and roll it out."""
    per_step = _NUM_STEP_DRAWS + _NUM_ACT_DRAWS
    per_episode = _NUM_RESET_DRAWS + MAX_ACTIONS * (_NUM_COLUMNS + 1) + 8
    per_episode = per_episode + EPISODE_STEPS * per_step
    draws = Draws(key, _NUM_TASK_DRAWS + num_episodes * per_episode)
    params, actions = family.init(draws)
    starts = draws.uniform(shape=(num_episodes, _NUM_RESET_DRAWS))
    starts = jax.vmap(family.reset, (0, None))(starts, params)
    policies = _draw_policies(draws, num_episodes)

    def see(state):
        obs, angle = family.observe(params, state)
        return jnp.pad(obs, (0, _NUM_COLUMNS - len(obs))), angle

    def step(carry, u):
        states, last = carry

        def one(u, policy, state, last):
            obs, angle = see(state)
            action = policy(u[:_NUM_ACT_DRAWS], actions, obs, last)
            effect = actions.effect(action)
            new = family.step(u[_NUM_ACT_DRAWS:], params, state, action, effect)
            return new, action, (obs, angle, *see(new), action, effect)

        new, action, row = jax.vmap(one)(u, policies, states, last)
        return (new, action), row

    # The first action that a sticky policy repeats is a random one.
    last = draws.uniform(-1.0, 1.0, (num_episodes, MAX_ACTIONS))
    u = draws.uniform(shape=(EPISODE_STEPS, num_episodes, per_step))
    _, rows = jax.lax.scan(step, (starts, jax.vmap(actions.vector)(last)), u)
    rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows)
    mask = family.obs_mask(params)
    return PriorRollout(*rows, obs_mask=jnp.pad(mask, (0, _NUM_COLUMNS - len(mask))))


def _draw_policies(draws, num_episodes):
    """All uniform, or some guided by feedback, the held-out episodes' above all."""
    guided = draws.chance(0.5, (num_episodes,)) | is_held_out(num_episodes)
    guided = guided & draws.chance(0.4)
    return init_policies(draws, num_episodes, ~guided, _NUM_COLUMNS)


def draw_rows(
    key: jax.Array, rollout: PriorRollout, num_context: int, num_query: int
) -> Dataset:
    """Draw rewards and ends for a rollout, and rows of context and queries."""
    num_rows = rollout.effect.shape[0] * rollout.effect.shape[1]
    draws = Draws(key, 6 * num_rows + 2048)
    rows, is_valid, obs_mask = _describe(draws, rollout)
    by_row = draws.chance(0.25, is_valid.shape)
    by_episode = jnp.broadcast_to(is_held_out(len(is_valid))[:, None], is_valid.shape)
    is_query = jnp.where(draws.chance(0.5), by_episode, by_row)

    def flat(x):
        return x.reshape(-1, *x.shape[2:])

    chosen = choose_rows(
        draws.uniform(shape=(num_rows,)),
        jax.tree.map(flat, rows),
        flat(is_valid),
        flat(is_query),
        num_context,
        num_query,
    )
    few = draws.log_uniform(0.1 * num_context, num_context)
    number = jnp.where(draws.chance(0.4), few, num_context)
    place = jnp.arange(num_context + num_query)
    kept = (place < number) | (place >= num_context)
    chosen = jax.tree.map(lambda x: x * kept.reshape(-1, *[1] * (x.ndim - 1)), chosen)
    return Dataset(chosen, obs_mask, num_context)


def _describe(
    draws: Draws, rollout: PriorRollout
) -> tuple[Context, jax.Array, jax.Array]:
    """Observations in random slots and units, rewards, and which rows there are."""
    # Columns in use come first, in a random order, and then go to random slots.
    u = draws.uniform(shape=(_NUM_COLUMNS,))
    order = jnp.argsort(jnp.where(rollout.obs_mask, u, 2.0))[:MAX_STATES]
    order = order[draws.order(MAX_STATES)]
    is_used = rollout.obs_mask[order]

    def place(x):
        return x[..., order] * is_used

    features = jnp.concatenate([place(rollout.obs), rollout.angle], -1)
    next_features = jnp.concatenate([place(rollout.next_obs), rollout.next_angle], -1)
    has_angle = jnp.any(rollout.angle != 0, (0, 1))
    flat = next_features.reshape(-1, features.shape[-1])
    scale = Scale.of(flat, jnp.ones(len(flat)))
    reward, terminated, was_over = draw_outcomes(
        draws,
        scale.normalize(features),
        scale.normalize(next_features),
        jnp.concatenate([is_used, has_angle]),
        rollout.effect,
    )
    length = draws.log_uniform(8.0, EPISODE_STEPS)
    has_ended = jnp.cumsum(terminated, 1) - terminated > 0
    in_time = jnp.arange(EPISODE_STEPS) < length
    is_valid = ~has_ended & ~was_over[:, :1] & in_time

    unit = draws.log_uniform(0.01, 100.0, (MAX_STATES,)) * is_used
    origin = unit * draws.uniform(-2.0, 2.0, (MAX_STATES,))
    origin = origin * draws.chance(0.3, (MAX_STATES,))
    rows = Context(
        obs=features[..., :MAX_STATES] * unit + origin,
        action=rollout.action[..., draws.order(MAX_ACTIONS)],
        next_obs=next_features[..., :MAX_STATES] * unit + origin,
        reward=reward,
        terminated=terminated.astype(jnp.float32),
        mask=is_valid.astype(jnp.float32),
    )
    return rows, is_valid, is_used.astype(jnp.float32)

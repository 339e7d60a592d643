"""What the transformer reads: standardised rows, and what closed-form fits leave.

Each target (change of an observation, or reward) is predicted by closed-form models
first; the best of them in the context is the base. Its leave-one-out residuals, in
units of their root mean square, are what is left to learn: where the base is exact they
are unpredictable and tiny, and nothing that the transformer adds in these units can
spoil the prediction. What the other models say instead, how sure they are, and how far
off each of them is for other rows is shown beside it: far from the context another one
than the best in the context may be the safer extrapolation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.closed_form import root_mean_square, targets_of
from oswm.context import Context, Scale
from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES
from oswm.selection import choose

NUM_SLOTS = MAX_STATES + 1  # targets: changes of observations, then the reward
# What a row's features say, in this order: what it is, then for each target the base's
# prediction, how strong its residuals are in the context, the first model's difference
# from the base and the residual, then whether it ended and is in use.
FEATURE_SIZES = {
    "obs": MAX_STATES,
    "action": MAX_ACTIONS,
    "base": NUM_SLOTS,
    "strength": NUM_SLOTS,
    "first_model": NUM_SLOTS,
    "residual": NUM_SLOTS,
    "terminated": 1,
    "mask": 1,
}
NUM_FEATURES = sum(FEATURE_SIZES.values())
_LEAST_RESIDUAL = 1e-5  # of a target's standard deviation; float32 has no more digits
_LEAST_SPREAD = 1e-3  # units
_LARGEST_INPUT = 10.0
_LARGEST_RESIDUAL = 30.0


@struct.dataclass
class ContextScales:
    """Statistics of a context, for its S observations, A actions and S + 1 targets.

    Attributes:
        obs: Of the observations.
        action: Of the actions.
        target: Of the changes and the reward.
        residual: Unit of the residuals, [S + 1].
        is_live: Targets that are not constant, [S + 1].
        num_inputs: Inputs that are not constant.
        choice: The model that is a target's base, one-hot [K, S + 1].
        error: Each model's leave-one-out error, log of units, [K, S + 1].
    """

    obs: Scale
    action: Scale
    target: Scale
    residual: jax.Array
    is_live: jax.Array
    num_inputs: jax.Array
    choice: jax.Array
    error: jax.Array


@struct.dataclass
class TokenRows:
    """Rows as the network reads them; of queries, residual and terminated are unknown.

    Attributes:
        features: Everything that is embedded, [N, NUM_FEATURES].
        inputs: Standardised observation and action, [N, S + A].
        next_obs: Standardised next observation; for queries the base's, [N, S].
        residual: In units of their root mean square, [N, S + 1].
        models: Each model's prediction minus the base's, in the same units, of rows as
            the others predict them, [N, K, S + 1].
        spread: Each model's standard deviation, log of units, [N, K, S + 1].
        terminated: [N].
        mask: [N].
    """

    features: jax.Array
    inputs: jax.Array
    next_obs: jax.Array
    residual: jax.Array
    models: jax.Array
    spread: jax.Array
    terminated: jax.Array
    mask: jax.Array


def feature(features: jax.Array, name: str) -> jax.Array:
    """One of FEATURE_SIZES of features [..., NUM_FEATURES], [..., its size]."""
    names = list(FEATURE_SIZES)
    start = sum(FEATURE_SIZES[other] for other in names[: names.index(name)])
    return features[..., start : start + FEATURE_SIZES[name]]


def slots_of(obs_size: int) -> jax.Array:
    """The slots of S observations and the reward, [S + 1]."""
    return jnp.append(jnp.arange(obs_size), MAX_STATES)


def read_context(
    context: Context, residuals: jax.Array, stds: jax.Array
) -> tuple[ContextScales, TokenRows, TokenRows]:
    """Describe each row as the others leave it.

    Args:
        context: The rows.
        residuals: Of each model, as of `LeaveOneOut.fit_each`, [K, N, S + 1].
        stds: Likewise.

    Returns:
        The scales, the rows, and the rows as queries, each as the other rows predict
        it.
    """
    mask = context.mask
    choice = choose(residuals)
    residual = jnp.sum(choice[:, None] * residuals, axis=0)
    targets = targets_of(context)
    target_scale = Scale.of(targets, mask)
    is_live = jnp.any(mask[:, None] * target_scale.normalize(targets) != 0, axis=0)
    inputs = jnp.concatenate([context.obs, context.action], axis=1)
    scale = Scale.of(inputs, mask)
    varies = jnp.any(mask[:, None] * scale.normalize(inputs) != 0, axis=0)
    size = context.obs_size
    least = _LEAST_RESIDUAL * target_scale.std
    unit = jnp.maximum(root_mean_square(residual, mask), least)
    errors = jax.vmap(root_mean_square, (0, None))(residuals, mask)
    scales = ContextScales(
        obs=Scale(scale.mean[:size], scale.std[:size]),
        action=Scale(scale.mean[size:], scale.std[size:]),
        target=target_scale,
        residual=unit,
        is_live=is_live.astype(jnp.float32),
        num_inputs=jnp.maximum(jnp.sum(varies), 1.0),
        choice=choice,
        error=jnp.log(jnp.maximum(errors, least) / unit),
    )
    means = targets - residuals
    rows = _describe(
        scales,
        context.obs,
        context.action,
        context.next_obs,
        means,
        stds,
        residual / unit,
        context.terminated,
        mask,
    )
    left_out = read_query(scales, context.obs, context.action, means, stds)
    return scales, rows, left_out


def read_query(
    scales: ContextScales,
    obs: jax.Array,
    action: jax.Array,
    means: jax.Array,
    stds: jax.Array,
) -> TokenRows:
    """Describe queries.

    Args:
        scales: Of the context.
        obs: Observations [M, S].
        action: Action vectors [M, A].
        means: The models' predictions, [K, M, S + 1].
        stds: Their standard deviations, [K, M, S + 1].
    """
    nothing = jnp.zeros(len(obs))
    base = base_of(scales, means)
    next_obs = obs + base[:, :-1]
    residual = jnp.zeros_like(base)
    return _describe(
        scales, obs, action, next_obs, means, stds, residual, nothing, nothing
    )


def base_of(scales: ContextScales, means: jax.Array) -> jax.Array:
    """The base's predictions [M, S + 1] among the models' [K, M, S + 1]."""
    return jnp.sum(scales.choice[:, None] * means, axis=0)


def _describe(
    scales, obs, action, next_obs, means, stds, residual, terminated, mask
) -> TokenRows:
    obs = _within(scales.obs.normalize(obs), _LARGEST_INPUT)
    action = _within(scales.action.normalize(action), _LARGEST_INPUT)
    next_obs = _within(scales.obs.normalize(next_obs), _LARGEST_INPUT)
    residual = _within(residual, _LARGEST_RESIDUAL) * scales.is_live
    base = base_of(scales, means)
    models = (means - base) / scales.residual * scales.is_live
    models = jnp.swapaxes(models, 0, 1)
    spread = spread_of(stds / scales.residual)
    spread = jnp.swapaxes(spread, 0, 1) * scales.is_live
    strength = jnp.log10(scales.residual / scales.target.std) * scales.is_live
    base = jnp.arcsinh(scales.target.normalize(base)) * scales.is_live
    missing = MAX_STATES - obs.shape[1]
    no_action = ((0, 0), (0, MAX_ACTIONS - action.shape[1]))

    def in_slots(x):
        between = jnp.zeros((len(x), missing))
        return jnp.concatenate([x[:, :-1], between, x[:, -1:]], axis=1)

    features = {
        "obs": jnp.pad(obs, ((0, 0), (0, missing))),
        "action": jnp.pad(action, no_action),
        "base": in_slots(base),
        "strength": in_slots(jnp.broadcast_to(strength, base.shape)),
        "first_model": in_slots(jnp.arcsinh(models[:, 0])),
        "residual": in_slots(jnp.arcsinh(residual)),
        "terminated": terminated[:, None],
        "mask": mask[:, None],
    }
    features = jnp.concatenate([features[name] for name in FEATURE_SIZES], axis=1)
    inputs = jnp.concatenate([obs, action], axis=1) * jnp.sqrt(0.5 / scales.num_inputs)
    next_obs = next_obs * jnp.sqrt(0.5 / scales.num_inputs)
    return TokenRows(
        features, inputs, next_obs, residual, models, spread, terminated, mask
    )


def spread_of(std: jax.Array) -> jax.Array:
    """The log of deviations in units of residuals."""
    return jnp.log(jnp.maximum(std, _LEAST_SPREAD))


def _within(x: jax.Array, largest: float) -> jax.Array:
    return jnp.clip(x, -largest, largest)

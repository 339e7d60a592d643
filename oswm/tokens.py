"""What the transformer reads: standardised rows, and what a closed-form fit leaves.

Each target (change of an observation, or reward) is predicted by a closed-form model
first. Its leave-one-out residuals, in units of their root mean square, are what is left
to learn: where the base is exact they are unpredictable and tiny, and nothing that the
transformer adds in these units can spoil the prediction. What ridge regression would
say instead is shown beside it: far from the context it is the safer extrapolation.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from oswm.closed_form import ClosedForm, Ridge, root_mean_square, targets_of
from oswm.context import Context, Scale
from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES

NUM_INPUTS = MAX_STATES + MAX_ACTIONS
NUM_SLOTS = MAX_STATES + 1  # targets: changes of observations, then the reward
NUM_FEATURES = NUM_INPUTS + 4 * NUM_SLOTS + 2
_RIDGE = Ridge()
_LEAST_RESIDUAL = 1e-5  # of a target's standard deviation; float32 has no more digits
_LARGEST_INPUT = 10.0
_LARGEST_RESIDUAL = 30.0


@struct.dataclass
class Scales:
    """Statistics of a context, for its S observations, A actions and S + 1 targets.

    Attributes:
        obs: Of the observations.
        action: Of the actions.
        target: Of the changes and the reward.
        residual: Unit of the residuals, [S + 1].
        is_live: Targets that are not constant, [S + 1].
        num_inputs: Inputs that are not constant.
        ridge: A ridge regression of the context.
    """

    obs: Scale
    action: Scale
    target: Scale
    residual: jax.Array
    is_live: jax.Array
    num_inputs: jax.Array
    ridge: Any


@struct.dataclass
class Rows:
    """Rows as the network reads them; of queries, residual and terminated are unknown.

    Attributes:
        features: Everything that is embedded, [N, NUM_FEATURES].
        inputs: Standardised observation and action, [N, S + A].
        next_obs: Standardised next observation; for queries the base's, [N, S].
        residual: In units of their root mean square, [N, S + 1].
        ridge: Ridge regression minus the base, in the same units, [N, S + 1].
        terminated: [N].
        mask: [N].
    """

    features: jax.Array
    inputs: jax.Array
    next_obs: jax.Array
    residual: jax.Array
    ridge: jax.Array
    terminated: jax.Array
    mask: jax.Array


def slots_of(obs_size: int) -> jax.Array:
    """The slots of S observations and the reward, [S + 1]."""
    return jnp.append(jnp.arange(obs_size), MAX_STATES)


def read_context(base: ClosedForm, context: Context) -> tuple[Any, Scales, Rows]:
    """Fit the base to a context and describe each row as the others leave it.

    Returns:
        The base's fit, the scales, and the rows.
    """
    mask = context.mask
    fit, residual, _ = base.fit_targets(context)
    residual = residual * mask[:, None]
    ridge, ridge_residual, _ = _RIDGE.fit_targets(context)
    targets = targets_of(context)
    target_scale = Scale.of(targets, mask)
    is_live = jnp.any(mask[:, None] * target_scale.normalize(targets) != 0, axis=0)
    inputs = jnp.concatenate([context.obs, context.action], axis=1)
    scale = Scale.of(inputs, mask)
    varies = jnp.any(mask[:, None] * scale.normalize(inputs) != 0, axis=0)
    size = context.obs_size
    scales = Scales(
        obs=Scale(scale.mean[:size], scale.std[:size]),
        action=Scale(scale.mean[size:], scale.std[size:]),
        target=target_scale,
        residual=jnp.maximum(
            root_mean_square(residual, mask), _LEAST_RESIDUAL * target_scale.std
        ),
        is_live=is_live.astype(jnp.float32),
        num_inputs=jnp.maximum(jnp.sum(varies), 1.0),
        ridge=ridge,
    )
    rows = _describe(
        scales,
        context.obs,
        context.action,
        context.next_obs,
        targets - residual,
        residual / scales.residual,
        (residual - ridge_residual * mask[:, None]) / scales.residual,
        context.terminated,
        mask,
    )
    return fit, scales, rows


def read_query(
    scales: Scales, obs: jax.Array, action: jax.Array, mean: jax.Array
) -> Rows:
    """Describe queries.

    Args:
        scales: Of the context.
        obs: Observations [M, S].
        action: Action vectors [M, A].
        mean: The base's prediction, [M, S + 1].
    """
    nothing = jnp.zeros(len(obs))
    ridge = jax.vmap(lambda o, a: _RIDGE.predict_targets(scales.ridge, o, a)[0])(
        obs, action
    )
    return _describe(
        scales,
        obs,
        action,
        obs + mean[:, :-1],
        mean,
        jnp.zeros_like(mean),
        (ridge - mean) / scales.residual,
        nothing,
        nothing,
    )


def _describe(
    scales, obs, action, next_obs, mean, residual, ridge, terminated, mask
) -> Rows:
    obs = _within(scales.obs.normalize(obs), _LARGEST_INPUT)
    action = _within(scales.action.normalize(action), _LARGEST_INPUT)
    next_obs = _within(scales.obs.normalize(next_obs), _LARGEST_INPUT)
    residual = _within(residual, _LARGEST_RESIDUAL) * scales.is_live
    ridge = _within(ridge, _LARGEST_RESIDUAL) * scales.is_live
    strength = jnp.log10(scales.residual / scales.target.std) * scales.is_live
    mean = jnp.arcsinh(scales.target.normalize(mean)) * scales.is_live
    missing = MAX_STATES - obs.shape[1]
    no_action = ((0, 0), (0, MAX_ACTIONS - action.shape[1]))

    def in_slots(x):
        between = jnp.zeros((len(x), missing))
        return jnp.concatenate([x[:, :-1], between, x[:, -1:]], axis=1)

    features = jnp.concatenate(
        [
            jnp.pad(obs, ((0, 0), (0, missing))),
            jnp.pad(action, no_action),
            in_slots(mean),
            in_slots(jnp.broadcast_to(strength, mean.shape)),
            in_slots(jnp.arcsinh(ridge)),
            in_slots(jnp.arcsinh(residual)),
            terminated[:, None],
            mask[:, None],
        ],
        axis=1,
    )
    inputs = jnp.concatenate([obs, action], axis=1) * jnp.sqrt(0.5 / scales.num_inputs)
    next_obs = next_obs * jnp.sqrt(0.5 / scales.num_inputs)
    return Rows(features, inputs, next_obs, residual, ridge, terminated, mask)


def _within(x: jax.Array, largest: float) -> jax.Array:
    return jnp.clip(x, -largest, largest)

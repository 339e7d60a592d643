"""A context whose rows can be evolved: what happened in them becomes `params.weights`.

`jaxrl_se.evolve` takes any environment with `init_weights` and `population_axes`. Here
the evolved pytree holds changes to the outcomes of a few rows of the context: those
that explain most of it, as kernel ridge regression chooses them. The world model and
its cache are shared by a whole population and stay unbatched; a changed outcome spreads
to nearby states and actions by Gaussian-process interpolation.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs import Transitions
from oswm.closed_form import targets_of
from oswm.context import Context, Prediction, Scale
from oswm.environment import WorldModelEnv, WorldModelParams
from oswm.landmarks import choose_landmarks, kernel
from oswm.linalg import matmul


@struct.dataclass
class EvolvingRows:
    """The rows of a context that evolve.

    Attributes:
        scale: Of observation and action.
        relevance: float32 [D], factor of each standardised input in the kernel.
        points: float32 [K, D], the rows, in units of the kernel.
        whitening: float32 [K, K], from kernel values to features.
        size: float32 [S + 1], standard deviation of each target.
    """

    scale: Scale
    relevance: jax.Array
    points: jax.Array
    whitening: jax.Array
    size: jax.Array


@struct.dataclass
class EvolvableParams(WorldModelParams):
    """Params of a world model whose context evolves.

    Attributes:
        weights: float32 [K, S + 1]: how much larger the change of each observation and
            the reward were in each row, in standard deviations of that target.
        rows: The rows.
    """

    weights: Any = None
    rows: Any = None


class EvolvableEnv(WorldModelEnv):
    """A world-model environment that adds what the evolved outcomes change."""

    def predict(self, params: Any, obs: jax.Array, action: jax.Array) -> Prediction:
        """The model's prediction, corrected."""
        prediction = super().predict(params, obs, action)
        rows = params.rows
        x = rows.relevance * rows.scale.normalize(jnp.concatenate([obs, action]))
        features = matmul(
            rows.whitening, kernel(x, rows.points, rows.relevance > 0, None)
        )
        outcomes = matmul(rows.whitening, params.weights)
        change = rows.size * matmul(features, outcomes)
        return dataclasses.replace(
            prediction,
            next_obs_mean=prediction.next_obs_mean + change[:-1],
            reward_mean=prediction.reward_mean + change[-1],
        )

    def draw(
        self, params: Any, obs: jax.Array, action: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """A Gaussian step around the corrected prediction."""
        return self.predict(params, obs, action).sample(key)

    def init_weights(self, key: jax.Array) -> jax.Array:
        """The context as it is; an evolution starts from there."""
        del key
        return jnp.zeros(self.weights_shape)

    @staticmethod
    def population_axes(params: EvolvableParams) -> Any:
        """Which leaves of `params` carry the population axis: the weights alone."""
        shared = jax.tree.map(lambda _: None, params)
        return shared.replace(weights=0)

    @property
    def weights_shape(self) -> tuple[int, int]:
        """[K, S + 1]."""
        return self.num_rows, self.obs_size + 1

    num_rows: int = 0


def evolvable(
    transitions: Transitions,
    env: WorldModelEnv,
    params: WorldModelParams,
    num_rows: int = 32,
    length_scale: float = 1.0,
) -> tuple[EvolvableEnv, EvolvableParams]:
    """Make the context of a world-model environment evolvable.

    Args:
        transitions: The context.
        env: What `condition` made of it.
        params: Its params.
        num_rows: EvolvingRows whose outcomes evolve, K.
        length_scale: How far they spread, in units of the root of the number of inputs.

    Returns:
        A gymnax pair for `jaxrl_se.evolve(..., proxy=pair)`.

    Raises:
        ValueError: If there are not as many rows.
    """
    context = Context.of(transitions, env.action_space(params))
    if not 0 < num_rows <= context.num_rows:
        raise ValueError(
            f"num_rows must be in 1 ... {context.num_rows} (the context's rows), got "
            f"{num_rows}"
        )
    inputs = jnp.concatenate([context.obs, context.action], axis=1)
    scale = Scale.of(inputs, context.mask)
    relevance = jnp.full(inputs.shape[1], 1 / (length_scale * inputs.shape[1] ** 0.5))
    points = relevance * scale.normalize(inputs)
    chosen, whitening = choose_landmarks(
        points, context.mask, num_rows, relevance > 0, None
    )
    rows = EvolvingRows(
        scale,
        relevance,
        points[chosen],
        whitening,
        Scale.of(targets_of(context), context.mask).std,
    )
    evolving = EvolvableEnv.__new__(EvolvableEnv)
    vars(evolving).update(vars(env), num_rows=num_rows)
    fields = {name: getattr(params, name) for name in params.__dataclass_fields__}
    weights = evolving.init_weights(jax.random.key(0))
    return evolving, EvolvableParams(**fields, weights=weights, rows=rows)

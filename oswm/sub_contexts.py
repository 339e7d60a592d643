"""Any world model, fitted to parts of the context: where they disagree, none knows."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_runs import values
from jaxrl_runs.values import INDEX, RATE, Integer, seed_key, setting
from oswm.context import Context, Prediction
from oswm.environment import outcome


@dataclasses.dataclass(frozen=True)
class SubContexts:
    """An ensemble of one model over random parts of the context.

    Predictions are the members' means; the spread of the members is added to the
    variance that they predict themselves.

    Attributes:
        model: A world model.
        num_members: How many parts.
        fraction: Share of the rows in each part.
        seed: Of the choice of rows.
    """

    model: Any
    num_members: int = setting(5, Integer(at_least=2))
    fraction: float = setting(0.7, RATE)
    seed: int = setting(0, INDEX)

    def __post_init__(self):
        values.check(self)

    def masks(self, context: Context) -> jax.Array:
        """Which rows each member sees, 0 or 1 [M, N]."""
        draws = jax.random.uniform(
            seed_key(self.seed), (self.num_members, context.num_rows)
        )
        draws = jnp.where(context.mask > 0, draws, jnp.inf)
        ranks = jnp.argsort(jnp.argsort(draws, axis=1), axis=1)
        return context.mask * (ranks < self.fraction * jnp.sum(context.mask))

    def fit(self, context: Context) -> Any:
        """Fit each member, one after the other; a leading axis of members."""
        return jax.lax.map(
            lambda mask: self.model.fit(dataclasses.replace(context, mask=mask)),
            self.masks(context),
        )

    def predict(self, cache: Any, obs: jax.Array, action: jax.Array) -> Prediction:
        """Mean and standard deviation of the mixture of all members."""
        each = jax.vmap(self.model.predict, (0, None, None))(cache, obs, action)

        def deviation(mean, std):
            return jnp.sqrt(jnp.var(mean, axis=0) + jnp.mean(jnp.square(std), axis=0))

        unknown = each.unknown_std
        unknown = each.next_obs_std if unknown is None else unknown
        return Prediction(
            next_obs_mean=jnp.mean(each.next_obs_mean, axis=0),
            next_obs_std=deviation(each.next_obs_mean, each.next_obs_std),
            reward_mean=jnp.mean(each.reward_mean, axis=0),
            reward_std=deviation(each.reward_mean, each.reward_std),
            terminated_prob=jnp.mean(each.terminated_prob, axis=0),
            unknown_std=deviation(each.next_obs_mean, unknown),
            internal=each,
        )

    def outcome(
        self,
        cache: Any,
        obs: jax.Array,
        action: jax.Array,
        next_obs: jax.Array,
        prediction: Prediction,
    ) -> tuple[jax.Array, jax.Array]:
        """See `oswm.world_model`: the means of the members."""
        ask = jax.vmap(partial(outcome, self.model), (0, None, None, None, 0))
        reward, end = ask(cache, obs, action, next_obs, prediction.internal)
        return jnp.mean(reward) - prediction.reward_mean, jnp.mean(end)

    def sample(
        self, cache: Any, obs: jax.Array, action: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draw next observation [S], reward and termination of one step."""
        return self.predict(cache, obs, action).sample(key)

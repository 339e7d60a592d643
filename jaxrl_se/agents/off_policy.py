"""Agents that learn from a replay buffer: what they share as `Agent`s.

All that is random about a step is one vector of uniform numbers, drawn ahead. Under
`jax.vmap` with the environment's params as the only mapped argument these draws, the
schedule of updates and the positions in the buffer stay unbatched: the members of a
group share their randomness and cost little more than their matrix products.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_se.agents.agent import Agent, Transition, alone, only
from jaxrl_se.agents.bonus import Bonus
from jaxrl_se.agents.observations import (
    ObsStatistics,
    check_observations,
    normalized,
    policy_of,
    with_statistics,
)
from jaxrl_se.agents.replay import Batch, Replay
from jaxrl_se.networks import NetworkShape, Weights


@struct.dataclass
class Progress:
    """How far a training run has come.

    Attributes:
      step: int32, environment steps taken.
      episode: int32, episodes finished.
    """

    step: jax.Array
    episode: jax.Array


@struct.dataclass
class Variation:
    """Traced sizes inside an agent's padded static ones.

    Attributes:
      network: Width and depth of its networks.
      batch_size: int, rows of a minibatch in use.
    """

    network: NetworkShape
    batch_size: Any


@struct.dataclass
class OffPolicyState:
    """The state of an agent with a replay buffer.

    Attributes:
      learner: What it learns: networks, target networks, optimiser states.
      curiosity: The state of a bonus, None without one.
      buffer: The replay buffer's arrays.
      progress: Steps and episodes so far.
      is_due: bool `[N]`, whether the step in each environment is followed by an update.
      observations: Of all so far, None for an agent that sees them as they are.
    """

    learner: Any
    curiosity: Any
    buffer: dict[str, jax.Array]
    progress: Progress
    is_due: jax.Array
    observations: ObsStatistics | None = None


class OffPolicyAgent(Agent):
    """An `Agent` with a replay buffer, given an algorithm.

    Subclasses are frozen `flax.struct` dataclasses of hyperparameters with the pure
    functions `init`, `explore` and `learn`.

    Attributes:
      num_envs: Static; environments that are stepped at once. There are as many updates
        per environment step as with one.
      learning_starts: Environment steps before the first update.
      updates_per_step: Updates per environment step, at most 1, evenly spaced.
      batch_size: Static; rows of a minibatch, drawn uniformly with replacement.
      buffer_size: Static; capacity of the replay buffer.
      normalize_observations: Static; whether networks see observations by the mean and
        deviation of all so far. The buffer keeps them as they are.
      variation: Traced sizes inside the static ones, or None (see
        `jaxrl_se.hyperparameters`).
    """

    learning_starts: Any
    updates_per_step: Any
    batch_size: int
    buffer_size: int
    normalize_observations: bool = False
    variation: Variation | None

    def init(self, spaces: Spaces, key: jax.Array) -> Any:
        """Draws a learner: networks, target networks, optimiser states."""
        raise NotImplementedError

    def explore(
        self,
        spaces: Spaces,
        learner: Any,
        obs: jax.Array,
        uniform: jax.Array,
        progress: Progress,
    ) -> tuple[jax.Array, jax.Array]:
        """An exploring action in one environment, and as it is stored."""
        raise NotImplementedError

    def learn(
        self, spaces: Spaces, learner: Any, batch: Batch, uniform: jax.Array
    ) -> Any:
        """The learner after one gradient step."""
        raise NotImplementedError

    def learned_weights(self, spaces: Spaces, learner: Any) -> Weights:
        """The part of a learner that `learned_policy` needs."""
        raise NotImplementedError

    def learned_policy(self, spaces: Spaces, weights: Weights) -> Any:
        """The test policy, of observations as the networks see them."""
        raise NotImplementedError

    def stored_action_size(self, spaces: Spaces) -> int:
        """Size of an action in the buffer."""
        raise NotImplementedError

    def num_draws(self, spaces: Spaces) -> tuple[int, int]:
        """Uniform numbers that `explore` and `learn` take."""
        raise NotImplementedError

    def is_learning(self, progress: Progress) -> jax.Array:
        """Whether a step that begins at `progress` is followed by an update."""
        return progress.step >= self.learning_starts

    def is_due(self, step: jax.Array) -> jax.Array:
        """Whether `updates_per_step` puts an update after this step."""
        before = jnp.floor(step * self.updates_per_step)
        return jnp.floor((step + 1) * self.updates_per_step) > before

    def start(
        self,
        spaces: Spaces,
        key: jax.Array,
        *,
        num_steps: int,
        env: Any = None,
        params: Any = None,
    ) -> OffPolicyState:
        """See `Agent`."""
        del env, params
        return OffPolicyState(
            learner=self.init(spaces, key),
            curiosity=None,
            buffer=self._replay(spaces).init(min(self.buffer_size, num_steps)),
            progress=Progress(jnp.int32(0), jnp.int32(0)),
            is_due=jnp.zeros(self.num_envs, bool),
            observations=(
                ObsStatistics.start(spaces) if self.normalize_observations else None
            ),
        )

    def draw(
        self, spaces: Spaces, key_act: jax.Array, key_update: jax.Array, num_rounds: int
    ) -> tuple[jax.Array, jax.Array]:
        """Uniform numbers in [0, 1): of each environment those of a step, `[R, N, U]`.

        One call draws all of them: each costs compile time.
        """
        del key_update
        num_uniform = sum(self.num_draws(spaces)) + self.batch_size
        uniform = jax.random.uniform(key_act, (num_rounds, self.num_envs, num_uniform))
        return jnp.expand_dims(uniform, 1), uniform

    def act(
        self, spaces: Spaces, state: OffPolicyState, obs: jax.Array, draw: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `Agent`; `explore` in each environment."""
        uniform = draw[:, : self.num_draws(spaces)[0]]
        obs = normalized(state.observations, obs)

        def one(obs, uniform):
            return self.explore(spaces, state.learner, obs, uniform, state.progress)

        if self.num_envs > 1:
            return jax.vmap(one)(obs, uniform)
        return alone(one(only(obs), only(uniform)))

    def observe(
        self, spaces: Spaces, state: OffPolicyState, transition: Transition
    ) -> OffPolicyState:
        """Stores the transitions, one environment after the other."""
        replay, buffer, progress = self._replay(spaces), state.buffer, state.progress
        capacity = buffer["packed"].shape[0]
        values = {name: getattr(transition, name) for name in replay.fields}
        buffer = replay.write(buffer, progress.step % capacity, values)
        steps = progress.step + jnp.arange(self.num_envs)
        seen = state.observations
        return state.replace(  # type: ignore
            observations=None if seen is None else seen.seen(transition.obs),
            buffer=buffer,
            progress=Progress(
                progress.step + self.num_envs,
                progress.episode + jnp.sum(transition.done, dtype=jnp.int32),
            ),
            is_due=self.is_learning(progress) & self.is_due(steps),
        )

    def update(
        self,
        spaces: Spaces,
        state: OffPolicyState,
        draw: jax.Array,
        bonus: Bonus | None = None,
    ) -> OffPolicyState:
        """As many gradient steps as are due, at most one per environment.

        A bonus learns from the same minibatch, and pays for its rows by what it has
        just become.
        """
        buffer = state.buffer
        num_act, num_update = self.num_draws(spaces)
        rows_in_use = self.batch_size
        if self.variation is not None:
            rows_in_use = self.variation.batch_size
        mask = (jnp.arange(self.batch_size) < rows_in_use).astype(jnp.float32)
        num_stored = jnp.minimum(state.progress.step, buffer["packed"].shape[0])

        def learn(learners, batch, uniform):
            learner, curiosity = learners
            if bonus is not None:
                vectors = self.action_vectors(spaces, batch.action)
                seen = batch.replace(
                    obs=spaces.flatten_obs(batch.obs),
                    next_obs=spaces.flatten_obs(batch.next_obs),
                    action=vectors,
                )
                curiosity = bonus.update(spaces, curiosity, seen)
                curiosity, paid = bonus.rewards(spaces, curiosity, seen)
                batch = batch.replace(reward=batch.reward + paid)
            return self.learn(spaces, learner, batch, uniform), curiosity

        def one(learners, x):
            uniform, is_due = x
            for_update, for_rows = jnp.split(uniform[num_act:], [num_update])
            rows = (for_rows * num_stored).astype(jnp.int32)
            batch = self._batch(spaces, state, rows, mask)
            learners = jax.lax.cond(
                is_due,
                lambda learners: learn(learners, batch, for_update),
                lambda learners: learners,
                learners,
            )
            return learners, None

        learners = (state.learner, state.curiosity)
        if self.num_envs > 1:
            learners, _ = jax.lax.scan(one, learners, (draw, state.is_due))
        else:
            learners, _ = one(learners, only((draw, state.is_due)))
        learner, curiosity = learners
        return state.replace(learner=learner, curiosity=curiosity)  # type: ignore

    def policy_weights(self, spaces: Spaces, state: OffPolicyState) -> Weights:
        """See `Agent`."""
        learned = self.learned_weights(spaces, state.learner)
        return with_statistics(learned, state.observations)

    def policy(self, spaces: Spaces, weights: Weights) -> Any:
        """See `Agent`; `learned_policy` of the weights."""
        make = functools.partial(self.learned_policy, spaces)
        return policy_of(make, weights, self.normalize_observations)

    def metrics(self, spaces: Spaces, state: OffPolicyState) -> dict[str, jax.Array]:
        """`losses` of the newest rows; NaN before there is a whole minibatch."""
        newest = state.progress.step - 1 - jnp.arange(self.batch_size)
        rows = newest % state.buffer["packed"].shape[0]
        mask = jnp.ones(self.batch_size, jnp.float32)
        batch = self._batch(spaces, state, rows, mask)
        uniform = jnp.full(self.num_draws(spaces)[1], 0.5)
        found = self.losses(spaces, state.learner, batch, uniform)
        return {n: jnp.where(newest[-1] >= 0, x, jnp.nan) for n, x in found.items()}

    def losses(
        self, spaces: Spaces, learner: Any, batch: Batch, uniform: jax.Array
    ) -> dict[str, jax.Array]:
        """Scalars by name that say how learning goes; arguments as those of `learn`."""
        del spaces, learner, batch, uniform
        return {}

    def action_vectors(self, spaces: Spaces, stored: jax.Array) -> jax.Array:
        """Stored actions `[B, ...]` as a `Bonus` sees them, `[B, action_size]`."""
        if spaces.num_actions is None:
            return stored
        is_index = stored.shape[-1] == 1
        choice = stored[:, 0] if is_index else jnp.argmax(stored, axis=-1)
        return jax.nn.one_hot(choice.astype(jnp.int32), spaces.num_actions)

    @property
    def network_shape(self) -> NetworkShape | None:
        """The traced shape of the networks, if it varies."""
        return None if self.variation is None else self.variation.network

    def check_sizes(self, spaces: Spaces) -> None:
        """Raises ValueError for sizes that do not fit together or into the spaces."""
        check_observations(self.normalize_observations, spaces)
        for name in ("num_envs", "batch_size"):
            if getattr(self, name) > self.buffer_size:
                raise ValueError(
                    f"{name} must be at most buffer_size ({self.buffer_size}), got "
                    f"{getattr(self, name)}"
                )

    def check_continuous(self, spaces: Spaces) -> None:
        """Raises ValueError unless actions are vectors with finite bounds."""
        name = type(self).__name__
        if spaces.num_actions is not None:
            raise ValueError(
                f"task: {name} needs continuous actions, but this task has "
                f"{spaces.num_actions} discrete ones; DDQN, PPO, SAC and DiscreteTD3 "
                "take those"
            )
        bounds = (*spaces.action_low, *spaces.action_high)
        if not all(math.isfinite(bound) for bound in bounds):
            raise ValueError(
                f"task: {name} needs finite action bounds, but this task's actions are "
                f"between {spaces.action_low} and {spaces.action_high}"
            )

    def _batch(
        self, spaces: Spaces, state: OffPolicyState, rows: jax.Array, mask: jax.Array
    ) -> Batch:
        """Rows of the buffer as the networks see them."""
        batch = self._replay(spaces).read(state.buffer, rows, mask)
        if state.observations is None:
            return batch
        return batch.replace(  # type: ignore
            obs=state.observations.normalized(batch.obs),
            next_obs=state.observations.normalized(batch.next_obs),
        )

    def _replay(self, spaces: Spaces) -> Replay:
        assert spaces.obs_shape is not None
        action = (self.stored_action_size(spaces),)
        return Replay((spaces.obs_shape, spaces.obs_dtype), (action, "float32"))

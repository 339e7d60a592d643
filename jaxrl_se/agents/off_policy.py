"""The training loop of agents that learn from a replay buffer, for one agent.

All that is random is drawn ahead in large pieces, as one vector of uniform numbers per
step. Under `jax.vmap` with the environment's params as the only mapped argument these
draws, the schedule of updates and the positions in the buffer stay unbatched: the
members of a group share their randomness and cost little more than their matrix
products.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from envs.stepping import draw_steps
from jaxrl_se.agents.bonus import Bonus
from jaxrl_se.agents.replay import Batch, Replay
from jaxrl_se.agents.stopping import StopRule
from jaxrl_se.networks import NetworkShape, Weights
from jaxrl_se.reward_network import with_discount
from jaxrl_se.task_tests import Record, TaskTest

_CHUNK = 1000  # Steps whose randomness is drawn at once, about.


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
class Trained:
    """What training leaves behind.

    Attributes:
      weights: The policy's weights with a leading `[num_snapshots]` axis.
      steps: int32, environment steps until the end, fewer than the budget if a stop
        rule fired.
      episodes: int32, episodes finished until then.
      tests: What tests on the real task gave along the way, if there were any.
    """

    weights: Weights
    steps: jax.Array
    episodes: jax.Array
    tests: Record | None = None


@struct.dataclass
class Variation:
    """Traced sizes inside an agent's padded static ones.

    Attributes:
      network: Width and depth of its networks.
      batch_size: int, rows of a minibatch in use.
    """

    network: NetworkShape
    batch_size: Any


class OffPolicyAgent:
    """What the loop asks of an agent; subclasses are frozen `flax.struct` dataclasses.

    Attributes:
      learning_starts: Environment steps before the first update.
      updates_per_step: Updates per environment step, at most 1, evenly spaced.
      batch_size: Static; rows of a minibatch, drawn uniformly with replacement.
      buffer_size: Static; capacity of the replay buffer.
      variation: Traced sizes inside the static ones, or None (see
        `jaxrl_se.hyperparameters`).
    """

    learning_starts: Any
    updates_per_step: Any
    batch_size: int
    buffer_size: int
    variation: Variation | None

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        raise NotImplementedError

    def policy(self, spaces: Spaces, weights: Weights) -> Any:
        """The test policy, noise-free: a pytree callable `(obs, key) -> action`."""
        raise NotImplementedError

    def stored_action_size(self, spaces: Spaces) -> int:
        """Size of an action in the buffer."""
        raise NotImplementedError

    def num_draws(self, spaces: Spaces) -> tuple[int, int]:
        """Uniform numbers that `act` and `update` take at each step."""
        raise NotImplementedError

    def start(self, spaces: Spaces, key: jax.Array) -> Any:
        """Draws a learner: networks, target networks, optimiser states."""
        raise NotImplementedError

    def policy_weights(self, learner: Any) -> Weights:
        """The part of a learner that `policy` needs."""
        raise NotImplementedError

    def act(
        self,
        spaces: Spaces,
        learner: Any,
        obs: jax.Array,
        uniform: jax.Array,
        progress: Progress,
    ) -> tuple[jax.Array, jax.Array]:
        """An exploring action for the environment, and as it is stored."""
        raise NotImplementedError

    def is_learning(self, progress: Progress) -> jax.Array:
        """Whether a step that begins at `progress` is followed by an update."""
        return progress.step >= self.learning_starts

    def is_due(self, step: jax.Array) -> jax.Array:
        """Whether `updates_per_step` puts an update after this step."""
        before = jnp.floor(step * self.updates_per_step)
        return jnp.floor((step + 1) * self.updates_per_step) > before

    def update(
        self, spaces: Spaces, learner: Any, batch: Batch, uniform: jax.Array
    ) -> Any:
        """One gradient step."""
        raise NotImplementedError

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

    def check_sizes(self) -> None:
        """Raises ValueError for sizes and rates that cannot be trained with."""
        for name in ("batch_size", "buffer_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )
        rate = self.updates_per_step
        if isinstance(rate, int | float) and not 0 < rate <= 1:
            raise ValueError(f"updates_per_step must be in (0, 1], got {rate}")

    def check_continuous(self, spaces: Spaces) -> None:
        """Raises ValueError unless actions are vectors with finite bounds."""
        name = type(self).__name__
        if spaces.num_actions is not None:
            raise ValueError(
                f"task: {name} needs continuous actions, but this task has "
                f"{spaces.num_actions} discrete ones"
            )
        bounds = (*spaces.action_low, *spaces.action_high)
        if not all(math.isfinite(bound) for bound in bounds):
            raise ValueError(
                f"task: {name} needs finite action bounds, but this task's actions are "
                f"between {spaces.action_low} and {spaces.action_high}"
            )

    def train(
        self,
        env: Any,
        params: Any,
        key: jax.Array,
        *,
        num_steps: int,
        num_snapshots: int = 1,
        stop: StopRule | None = None,
        spaces: Spaces | None = None,
        bonus: Bonus | None = None,
        test: TaskTest | None = None,
    ) -> Trained:
        """Trains one agent: an environment step, then an update if it is due.

        The target bootstraps through truncation and stops at termination. An
        environment whose `step_env` returns a real-valued `info["discount"]` is taken
        at its word: it weighs the bootstrap.

        Args:
          env: A gymnax environment.
          params: Its params.
          key: A PRNG key.
          num_steps: Environment steps, a multiple of `num_snapshots`.
          num_snapshots: How many times the weights are kept, evenly spaced; the last
            are those at the end of training.
          stop: When to end earlier. Under `jax.vmap` all members then run until the
            last one stops.
          spaces: The environment's spaces; read from it by default, which has to be
            done before where `params` are traced and bound the actions.
          bonus: An intrinsic reward that learns along (see `jaxrl_se.Curious`).
          test: Tests on the real task after every episode, which can end training.
        """
        spaces = spaces or Spaces.of(env, params)
        params = with_discount(params, getattr(self, "discount", 1.0))
        capacity = min(self.buffer_size, num_steps)
        replay = Replay(spaces.obs_size, self.stored_action_size(spaces))
        num_act, num_update = self.num_draws(spaces)
        rows_in_use = self.batch_size
        if self.variation is not None:
            rows_in_use = self.variation.batch_size
        mask = (jnp.arange(self.batch_size) < rows_in_use).astype(jnp.float32)
        chunk_size = _chunk_size(num_steps // num_snapshots)
        num_chunks = num_steps // num_snapshots // chunk_size
        key_start, key_reset, key_chunks = jax.random.split(key, 3)
        # A key of its own: with tests an agent draws what it draws without.
        key_test = jax.random.fold_in(key, 4)

        def update(learners, batch, uniform):
            learner, curiosity = learners
            if bonus is not None:
                vectors = self.action_vectors(spaces, batch.action)
                seen = batch.replace(action=vectors)
                curiosity = bonus.update(spaces, curiosity, seen)
                curiosity, paid = bonus.rewards(spaces, curiosity, seen)
                batch = batch.replace(reward=batch.reward + paid)
            return self.update(spaces, learner, batch, uniform), curiosity

        def one_step(carry, draw, step):
            learners, buffer, obs, env_state, progress, total, stopping, tests = carry
            learner = learners[0]
            for_act, for_update, for_rows = jnp.split(
                draw["uniform"], [num_act, num_act + num_update]
            )
            action, stored = self.act(spaces, learner, obs, for_act, progress)
            taken = step(draw["env"], env_state, action)
            terminated = taken.terminated
            if "discount" in taken.info:
                terminated = 1.0 - taken.info["discount"]
            buffer = replay.write(
                buffer,
                progress.step % capacity,
                obs,
                stored,
                taken.reward,
                taken.next_obs,
                terminated,
            )
            num_stored = jnp.minimum(progress.step + 1, capacity)
            rows = (for_rows * num_stored).astype(jnp.int32)
            batch = replay.read(buffer, rows, mask)
            learners = jax.lax.cond(
                self.is_learning(progress) & self.is_due(progress.step),
                lambda learners: update(learners, batch, for_update),
                lambda learners: learners,
                learners,
            )
            done = taken.terminated | taken.truncated
            total = total + taken.reward
            if stop is not None:
                stopping = stop.update(stopping, total, done)
            progress = Progress(progress.step + 1, progress.episode + done)
            if test is not None:
                policy = self.policy(spaces, self.policy_weights(learners[0]))
                tests = test.after_step(
                    tests, policy, key_test, progress.step, done, num_steps
                )
            total = jnp.where(done, 0.0, total)
            agent = (learners, buffer, taken.obs, taken.state)
            return *agent, progress, total, stopping, tests

        def one_chunk(index, carry):
            key_env, key_uniform = jax.random.split(
                jax.random.fold_in(key_chunks, index)
            )
            env_draws, step = draw_steps(env, params, key_env, chunk_size)
            # One call draws all that is uniform: each costs compile time.
            num_uniform = num_act + num_update + self.batch_size
            uniform = jax.random.uniform(key_uniform, (chunk_size, num_uniform))
            draws = {"env": env_draws, "uniform": uniform}

            def goes_on(indexed):
                i, carry = indexed
                more = i < chunk_size
                if stop is not None:
                    more = more & ~stop.fired(carry[-2])
                return more if test is None else more & ~test.solved(carry[-1])

            def body(indexed):
                i, carry = indexed
                draw = jax.tree.map(lambda x: x[i], draws)
                return i + 1, one_step(carry, draw, step)

            return jax.lax.while_loop(goes_on, body, (jnp.int32(0), carry))[1]

        def one_snapshot(carry, index):
            first = index * num_chunks
            carry = jax.lax.fori_loop(first, first + num_chunks, one_chunk, carry)
            return carry, self.policy_weights(carry[0][0])

        obs, env_state = env.reset(key_reset, params)
        curiosity = None
        if bonus is not None:  # whose key is a fourth one: the agent's stay as they are
            curiosity = bonus.init(spaces, jax.random.fold_in(key, 3))
        carry = (
            (self.start(spaces, key_start), curiosity),
            replay.init(capacity),
            obs,
            env_state,
            Progress(jnp.int32(0), jnp.int32(0)),
            jnp.float32(0.0),
            None if stop is None else stop.init(),
            None if test is None else test.init(),
        )
        carry, snapshots = jax.lax.scan(one_snapshot, carry, jnp.arange(num_snapshots))
        progress = carry[4]
        return Trained(snapshots, progress.step, progress.episode, carry[-1])


def _chunk_size(num_steps: int) -> int:
    """The largest divisor of `num_steps` up to `_CHUNK`, or all where it is tiny."""
    size = max(n for n in range(1, min(_CHUNK, num_steps) + 1) if num_steps % n == 0)
    return size if size >= 50 else num_steps

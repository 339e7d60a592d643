"""Random network distillation (Burda et al., 2018)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs.values import NOT_NEGATIVE, POSITIVE, RATE, WIDTH, static, traced
from jaxrl_se.agents.replay import Batch
from jaxrl_se.networks import ACTIVATION, MLP, Weights

_EPSILON = 1e-8
# From the variance of PyTorch's initialisation to He's, which is that of the paper's. A
# random network of smaller weights is so smooth that what was learned of it here holds
# far beyond: on MountainCarContinuous the bonus then leads nowhere.
_GAIN = 6**0.5


@struct.dataclass
class RunningStatistics:
    """Mean and variance of all rows so far (Chan et al., 1979).

    Attributes:
      count: float32 scalar, number of rows.
      mean: float32 `[size]`.
      variance: float32 `[size]`, of the population; 1 before the first row.
    """

    count: jax.Array
    mean: jax.Array
    variance: jax.Array

    @classmethod
    def init(cls, size: int) -> RunningStatistics:
        """Before the first row: what leaves numbers as they are."""
        return cls(jnp.float32(0.0), jnp.zeros(size), jnp.ones(size))

    def update(self, rows: jax.Array, mask: jax.Array) -> RunningStatistics:
        """Adds the rows `[B, size]` whose `[B]` mask is 1."""
        mask = mask[:, None]
        num_new = jnp.sum(mask)
        count = self.count + num_new
        mean_new = jnp.sum(rows * mask, axis=0) / num_new
        squares = jnp.sum(jnp.square(rows - mean_new) * mask, axis=0)
        shift = mean_new - self.mean
        share = num_new / count
        squares = squares + self.variance * self.count
        squares = squares + jnp.square(shift) * self.count * share
        return RunningStatistics(count, self.mean + shift * share, squares / count)

    @property
    def std(self) -> jax.Array:
        """Standard deviation, never zero."""
        return jnp.sqrt(self.variance + _EPSILON)


@struct.dataclass
class RNDState:
    """What the distillation learns.

    Attributes:
      target: Weights of the random network, which stay as they are.
      predictor: Weights of the network that learns its outputs.
      opt_state: Adam's state.
      obs: Statistics of next observations.
      error: Statistics of the predictor's errors.
    """

    target: Weights
    predictor: Weights
    opt_state: Any
    obs: RunningStatistics
    error: RunningStatistics


@struct.dataclass
class RND:
    """Hyperparameters of random network distillation (arXiv 1810.12894).

    The bonus is the error with which a network predicts the outputs of a random one on
    the next observation: large where it was not trained. Observations are standardised
    by their running mean and deviation and clipped, the bonus is divided by the running
    deviation of the errors (their section 2.4), all over the rows seen so far.

    Other than the paper's in two ways, so that it fits any agent: the deviation is
    that of single errors, not of their discounted sums, for which rows would have to be
    in order; and one critic learns the sum of rewards and bonus, with the agent's
    discount, its episodes ending where the task's do (their "episodic" variant).

    Attributes:
      learning_rate: Adam's step size. The paper's is 1e-4 for PPO; agents with a replay
        buffer take a step with each transition, and novelty has to last until they
        have learned to go there.
      eta: Weight of the bonus, which is a few units at first and falls; lower it where
        the task's own rewards are small beside that.
      obs_clip: Largest standardised observation, on both sides.
      feature_size: Static; outputs of both networks.
      hidden_size: Static; width of hidden layers, two of the random network and three
        of the other one, which has to be the more powerful of both.
      activation: Static; a name in `jaxrl_se.networks.ACTIVATIONS`.
    """

    learning_rate: float = traced(3e-5, RATE)
    eta: float = traced(1.0, NOT_NEGATIVE)
    obs_clip: float = traced(5.0, POSITIVE)
    feature_size: int = static(64, WIDTH)
    hidden_size: int = static(64, WIDTH)
    activation: str = static("relu", ACTIVATION)

    def check(self, spaces: Spaces) -> None:
        """It fits all spaces."""

    def networks(self, spaces: Spaces) -> tuple[MLP, MLP]:
        """The random network and the one that predicts its outputs."""
        sizes, hidden = (spaces.obs_size, self.feature_size), (self.hidden_size,)
        return (
            MLP(sizes[0], 2 * hidden, sizes[1], self.activation),
            MLP(sizes[0], 3 * hidden, sizes[1], self.activation),
        )

    def init(self, spaces: Spaces, key: jax.Array) -> RNDState:
        """Draws both networks."""
        keys = jax.random.split(key)
        target, predictor = (
            network.scale_kernels(network.init(k), _GAIN)
            for network, k in zip(self.networks(spaces), keys, strict=True)
        )
        return RNDState(
            target=target,
            predictor=predictor,
            opt_state=self._adam.init(predictor),
            obs=RunningStatistics.init(spaces.obs_size),
            error=RunningStatistics.init(1),
        )

    def update(self, spaces: Spaces, state: RNDState, batch: Batch) -> RNDState:
        """One gradient step of the predictor."""

        def loss(predictor):
            changed = state.replace(predictor=predictor)  # type: ignore
            return batch.mean(self.errors(spaces, changed, batch.next_obs))

        grads = jax.grad(loss)(state.predictor)
        updates, opt_state = self._adam.update(grads, state.opt_state)
        predictor = optax.apply_updates(state.predictor, updates)
        return state.replace(predictor=predictor, opt_state=opt_state)  # type: ignore

    def rewards(
        self, spaces: Spaces, state: RNDState, batch: Batch
    ) -> tuple[RNDState, jax.Array]:
        """`eta` times the normalised error; these rows count in the statistics."""
        obs = state.obs.update(batch.next_obs, batch.mask)
        state = state.replace(obs=obs)  # type: ignore
        errors = self.errors(spaces, state, batch.next_obs)
        error = state.error.update(errors[:, None], batch.mask)
        return state.replace(error=error), self.eta * errors / error.std  # type: ignore

    def errors(self, spaces: Spaces, state: RNDState, obs: jax.Array) -> jax.Array:
        """Mean squared error of the predictor for `[B, obs_size]`, per row."""
        clip = self.obs_clip
        obs = jnp.clip((obs - state.obs.mean) / state.obs.std, -clip, clip)
        target, predictor = self.networks(spaces)
        difference = predictor(state.predictor, obs) - target(state.target, obs)
        return jnp.mean(jnp.square(difference), axis=-1)

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

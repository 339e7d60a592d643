"""The intrinsic curiosity module (Pathak et al., 2017)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs.values import FRACTION, NOT_NEGATIVE, RATE, WIDTH, static, traced
from jaxrl_se.agents.replay import Batch
from jaxrl_se.networks import MLP, Weights

_NUM_BLOCKS = 4


@struct.dataclass
class ICMState:
    """What the module learns.

    Attributes:
      weights: Of its networks, by name (see `ICM.init`).
      opt_state: Adam's state.
    """

    weights: dict[str, Weights]
    opt_state: Any


@struct.dataclass
class ICM:
    """Hyperparameters of the intrinsic curiosity module (arXiv 1705.05363).

    The bonus is the error with which the features of the next observation are
    predicted from those of this one and the action. The features are learned with a
    second task, to tell the action from both, so that they hold what the action
    matters for.

    Networks, losses and defaults are those of Ferreira et al. (2022), whose values
    tuned by task are in `jaxrl_se.presets.ferreira2022_icm`: features by two hidden
    layers; the action by two hidden layers; the next features by two hidden layers,
    four residual blocks of two linear layers that all see the action, and one hidden
    layer. Both losses train the features. Two discrete actions are one number, whose
    loss is the binary cross-entropy; more are one-hot with the cross-entropy;
    continuous ones have the mean squared error, in units of half their range. Unlike
    there, `DiscreteTD3` shows the action that it took and not the noisy vector.

    Attributes:
      learning_rate: Adam's step size.
      beta: Weight of the forward loss, in [0, 1]; that of the inverse loss is one minus
        this.
      eta: Weight of the bonus.
      feature_size: Static; number of features.
      hidden_size: Static; width of all hidden layers outside the residual blocks,
        which are as wide as the features.
    """

    learning_rate: float = traced(1e-4, RATE)
    beta: float = traced(0.2, FRACTION)
    eta: float = traced(0.5, NOT_NEGATIVE)
    feature_size: int = static(64, WIDTH)
    hidden_size: int = static(128, WIDTH)

    def check(self, spaces: Spaces) -> None:
        """It fits all spaces."""

    def networks(self, spaces: Spaces) -> dict[str, MLP]:
        """The networks by name; a residual block has two of the last kind."""
        size, hidden = self.feature_size, self.hidden_size
        action_size = 1 if spaces.num_actions == 2 else spaces.action_size
        seen = size + action_size
        return {
            "features": MLP(spaces.obs_size, (hidden, hidden), size, "leaky_relu"),
            "inverse": MLP(2 * size, (hidden, hidden), action_size, "relu"),
            "before": MLP(seen, (hidden, hidden), size, "leaky_relu"),
            "after": MLP(size, (hidden,), size, "leaky_relu"),
            "blocks": MLP(seen, (), size),
        }

    def init(self, spaces: Spaces, key: jax.Array) -> ICMState:
        """Draws the networks; `blocks` has a leading `[blocks, 2]` axis."""
        networks = self.networks(spaces)
        blocks = networks.pop("blocks")
        *keys, key_blocks = jax.random.split(key, len(networks) + 1)
        weights = {
            name: network.init(k)
            for k, (name, network) in zip(keys, networks.items(), strict=True)
        }
        keys_blocks = jax.random.split(key_blocks, (_NUM_BLOCKS, 2))
        weights["blocks"] = jax.vmap(jax.vmap(blocks.init))(keys_blocks)
        return ICMState(weights, self._adam.init(weights))

    def update(self, spaces: Spaces, state: ICMState, batch: Batch) -> ICMState:
        """One gradient step on both losses."""
        grads = jax.grad(self.loss)(state.weights, spaces, batch)
        updates, opt_state = self._adam.update(grads, state.opt_state)
        weights: Any = optax.apply_updates(state.weights, updates)
        return ICMState(weights, opt_state)

    def rewards(
        self, spaces: Spaces, state: ICMState, batch: Batch
    ) -> tuple[ICMState, jax.Array]:
        """`eta` times the mean squared error of the predicted features."""
        features = self._features(spaces, state.weights, batch)
        return state, self.eta * self.error(spaces, state.weights, batch, *features)

    def loss(self, weights: Any, spaces: Spaces, batch: Batch) -> jax.Array:
        """The weighted sum of the inverse and the forward loss."""
        now, later = self._features(spaces, weights, batch)
        inverse = self.networks(spaces)["inverse"]
        outputs = inverse(weights["inverse"], jnp.concatenate([now, later], axis=-1))
        action = _seen_action(spaces, batch)
        if spaces.num_actions is None:
            inverse_loss = jnp.mean(jnp.square(outputs - action), axis=-1)
        elif spaces.num_actions == 2:
            inverse_loss = optax.sigmoid_binary_cross_entropy(outputs, action)[:, 0]
        else:
            inverse_loss = optax.softmax_cross_entropy(outputs, action)
        forward_loss = self.error(spaces, weights, batch, now, later)
        return batch.mean((1 - self.beta) * inverse_loss + self.beta * forward_loss)

    def error(self, spaces, weights, batch: Batch, now, later) -> jax.Array:
        """Mean squared error per row, `[B]`, between predicted and actual features."""
        networks, action = self.networks(spaces), _seen_action(spaces, batch)

        def apply(name, weights, features):
            return networks[name](weights, jnp.concatenate([features, action], axis=-1))

        def layer(block, index):
            return jax.tree.map(lambda leaf: leaf[block, index], weights["blocks"])

        predicted = apply("before", weights["before"], now)
        for index in range(_NUM_BLOCKS):
            inner = jax.nn.leaky_relu(apply("blocks", layer(index, 0), predicted))
            predicted = predicted + apply("blocks", layer(index, 1), inner)
        predicted = networks["after"](weights["after"], predicted)
        return jnp.mean(jnp.square(predicted - later), axis=-1)

    def _features(self, spaces, weights, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Of both observations, `[B, feature_size]` each, in one pass."""
        both = jnp.concatenate([batch.obs, batch.next_obs])
        features = self.networks(spaces)["features"](weights["features"], both)
        now, later = jnp.split(features, 2)
        return now, later

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def _seen_action(spaces: Spaces, batch: Batch) -> jax.Array:
    """As the networks see actions: one of two as a single number, 0 or 1."""
    return batch.action[:, 1:] if spaces.num_actions == 2 else batch.action

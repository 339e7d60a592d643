"""Our world model: a closed-form fit of the context, corrected by a transformer.

The transformer was trained once, on synthetic tasks. Inside a context it predicts what
the closed-form fit leaves, as a distribution. How far its means are believed is decided
for each target inside the context, too: rows that are held out from the transformer
tell by which factor between 0 and 1 its correction makes the squared error smallest.
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.closed_form import ClosedForm
from oswm.context import Context, Prediction
from oswm.heads import HEADS, Bars, Mixture
from oswm.network import Network, NetworkCache, NetworkConfig, Output
from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES
from oswm.selection import LeaveOneOut
from oswm.termination import Termination
from oswm.tokens import Rows, Scales, read_context, read_query

_GATE_VARIANCE = 0.25


@struct.dataclass
class ModelCache:
    """Everything that is computed once per context.

    Attributes:
        weights: The transformer's.
        base: The closed-form fit.
        scales: Statistics of the context.
        network: Keys and values.
        gate: How far corrections are believed, 0 to 1, [S + 1].
        termination: The closed-form classifier.
    """

    weights: Any
    base: Any
    scales: Scales
    network: NetworkCache
    gate: jax.Array
    termination: Termination


@dataclasses.dataclass(frozen=True, eq=False)
class TransformerModel:
    """A world model; functions of one context and one query.

    Attributes:
        weights: Of the network, arrays.
        config: Of the network.
        base: The closed-form model underneath.
        num_folds: Parts of the context that are held out in turn to set the gate; 0
            believes the transformer without asking.
    """

    weights: Any
    config: NetworkConfig = NetworkConfig()  # noqa: RUF009 (frozen)
    base: ClosedForm = LeaveOneOut()  # noqa: RUF009
    num_folds: int = 4

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights; models of equal digest and settings are equal."""
        digest = hashlib.sha256()
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.weights):
            digest.update(jax.tree_util.keystr(path).encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TransformerModel) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self):
        return self.digest, self.config, self.base, self.num_folds

    @property
    def head(self) -> Mixture | Bars:
        """The distributions of residuals."""
        return HEADS[self.config.head]()

    def _encode(self, weights, rows: Rows) -> NetworkCache:
        network = Network(self.config)
        cache = network.apply({"params": weights}, rows, method="encode")
        return cast(NetworkCache, cache)

    def _decode(self, weights, cache: NetworkCache, query: Rows) -> Output:
        network = Network(self.config)
        output = network.apply({"params": weights}, cache, query, method="decode")
        return cast(Output, output)

    def fit(self, context: Context) -> ModelCache:
        """Read a context.

        Raises:
            ValueError: If it has more dimensions than the model holds.
        """
        check_sizes(context)
        weights = jax.tree.map(jnp.asarray, self.weights)
        base, scales, rows = read_context(self.base, context)
        gate = jnp.ones(context.obs_size + 1)
        if self.num_folds:
            gate = self._gate(weights, context, scales, rows)
        return ModelCache(
            weights=weights,
            base=base,
            scales=scales,
            network=self._encode(weights, rows),
            gate=gate * scales.is_live,
            termination=Termination.fit(context),
        )

    def _gate(self, weights, context, scales, rows: Rows) -> jax.Array:
        """Factors [S + 1] of the corrections, from rows held out in turn."""
        size = -(-context.num_rows // self.num_folds)
        mean = context.next_obs - context.obs
        mean = jnp.concatenate([mean, context.reward[:, None]], axis=1)
        mean = mean - rows.residual * scales.residual
        queries = read_query(scales, context.obs, context.action, mean)

        def one_fold(fold):
            index = jnp.arange(size) * self.num_folds + fold
            is_row = index < context.num_rows
            index = jnp.minimum(index, context.num_rows - 1)
            place = jnp.arange(context.num_rows)
            others = rows.mask * (place % self.num_folds != fold)
            features = rows.features * others[:, None]
            kept = dataclasses.replace(rows, mask=others, features=features)
            cache = self._encode(weights, kept)
            asked = jax.tree.map(lambda x: x[index], queries)
            guess = self._mean(self._decode(weights, cache, asked))
            in_use = (is_row * rows.mask[index])[:, None]
            return guess * in_use, rows.residual[index] * in_use

        guess, truth = jax.lax.map(one_fold, jnp.arange(self.num_folds))
        guess, truth = (x.reshape(-1, x.shape[-1]) for x in (guess, truth))
        power = jnp.square(guess).sum(0) + 1e-12
        factor = (guess * truth).sum(0) / power
        # Of a regression through the origin whose noise may differ between rows.
        error = jnp.square(guess * (truth - factor * guess)).sum(0) / jnp.square(power)
        # Before the rows say anything, the factor is taken to be 1 +- 0.5.
        certainty = _GATE_VARIANCE / (_GATE_VARIANCE + error)
        return jnp.clip(1.0 + certainty * (factor - 1.0), 0.0, 1.0)

    def _mean(self, output: Output) -> jax.Array:
        return output.shift + self.head.mean(output.params)

    def _ask(self, cache: ModelCache, obs, action) -> tuple[jax.Array, Output]:
        """The base's mean [S + 1], and the network's output for one query."""
        mean, _ = self.base.predict_targets(cache.base, obs, action)
        query = read_query(cache.scales, obs[None], action[None], mean[None])
        output = self._decode(cache.weights, cache.network, query)
        return mean, jax.tree.map(lambda x: x[0], output)

    def predict(self, cache: ModelCache, obs: jax.Array, action: jax.Array):
        """Predict one step.

        Args:
            cache: What ``fit`` returned.
            obs: Observation [S].
            action: Action vector [A], one-hot if discrete.
        """
        base, output = self._ask(cache, obs, action)
        scales, head = cache.scales, self.head
        mean = base + scales.residual * cache.gate * self._mean(output)
        std = scales.residual * scales.is_live * head.std(output.params)
        next_obs = obs + mean[:-1]
        return Prediction(
            next_obs_mean=next_obs,
            next_obs_std=std[:-1],
            reward_mean=mean[-1],
            reward_std=std[-1],
            terminated_prob=_end(cache, output, next_obs, action),
        )

    def sample(self, cache: ModelCache, obs, action, key: jax.Array):
        """Draw next observation [S], reward and termination of one step."""
        value_key, end_key = jax.random.split(key)
        base, output = self._ask(cache, obs, action)
        scales, head = cache.scales, self.head
        drawn = output.shift + head.sample(output.params, value_key)
        drawn = drawn - (1 - cache.gate) * self._mean(output)
        value = base + scales.residual * scales.is_live * drawn
        next_obs = obs + value[:-1]
        probability = _end(cache, output, next_obs, action)
        return next_obs, value[-1], jax.random.uniform(end_key) < probability


def _end(cache: ModelCache, output: Output, next_obs, action) -> jax.Array:
    """Probability of an end: the mean of what network and classifier think, as logits.

    The classifier knows where it ends if half-spaces and ellipsoids say it, the network
    looks at the rows nearby.
    """
    logit = cache.termination.logit(next_obs, action)
    return jax.nn.sigmoid(0.5 * (logit + output.terminated))


def check_sizes(context: Context) -> None:
    """Raise ValueError if a context has more dimensions than the model holds."""
    for name, size, most in (
        ("obs", context.obs_size, MAX_STATES),
        ("action", context.action_size, MAX_ACTIONS),
    ):
        if size > most:
            raise ValueError(
                f"{name}: the world model holds at most {most} dimensions, got {size}; "
                "leave some out, or take a closed-form model such as "
                "model=oswm.LeaveOneOut()"
            )

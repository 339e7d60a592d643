"""Our world model: closed-form fits of the context, which a transformer blends.

The transformer was trained once, on synthetic tasks. At each query it reconsiders how
the closed-form models are blended and predicts what they leave, as a distribution. How
far this shift is believed is decided for each target inside the context: rows that are
held out from the transformer tell by which factor between 0 and 1 it makes the squared
error smallest, and how its errors are spread. A target that one closed-form model alone
predicts far better there is left to that model.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.blended import BLENDED
from oswm.closed_form import ClosedForm, Fitted, drawn_step
from oswm.context import Context, Prediction, beyond, usual_of
from oswm.heads import HEADS, Bars, Mixture
from oswm.kernel_ridge import KernelRidge
from oswm.mlp_ensemble import MLPEnsemble
from oswm.network import (
    Network,
    NetworkCache,
    NetworkConfig,
    Output,
    blend_of,
    trust,
    trust_of,
)
from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES
from oswm.selection import LeaveOneOut, gather
from oswm.tails import Tails
from oswm.termination import Termination
from oswm.tokens import (
    ContextScales,
    TokenRows,
    base_of,
    read_context,
    read_query,
    spread_of,
)

_GATE_VARIANCE = 0.25
_FAR_BETTER = 0.5  # Share of the squared error at which blending is given up.
_FAR_ERROR = 1.0  # Of the next best model over the best one's, as a logarithm.
# How far a deviation grows with what a kernel and an ensemble of networks disagree by.
_DOUBT = 5.0
# The transformer is asked if for any target it leaves at most this share of the blend's
# squared error, and that is not exact: in units of the target's deviation.
_WORTH_IT, _EXACT = 0.95, 1e-3


@struct.dataclass
class ModelCache:
    """Everything that is computed once per context.

    Attributes:
        weights: The transformer's.
        fits: The closed-form models'.
        scales: Statistics of the context.
        network: Keys and values.
        gate: How far shifts are believed, 0 to 1, [S + 1].
        is_blended: Whether models are blended and shifted at all, 0 or 1, [S + 1]; if
            not, the best of them predicts alone.
        is_asked: Whether the transformer is asked at all, or held-out rows say that it
            changes nothing, bool scalar.
        termination: The closed-form classifier.
        unit: What deviations are multiplied with to be those of rows that are held out,
            [S + 1].
        usual: What nine in ten rows' deviations before that do not exceed, [S + 1].
        tails: How these are spread around what is predicted, in deviations.
    """

    weights: Any
    fits: Any
    scales: ContextScales
    network: NetworkCache
    gate: jax.Array
    is_blended: jax.Array
    is_asked: jax.Array
    termination: Termination
    unit: jax.Array
    usual: jax.Array
    tails: Tails


@dataclasses.dataclass(frozen=True, eq=False)
class TransformerModel:
    """A world model; functions of one context and one query.

    Attributes:
        weights: Of the network, arrays.
        config: Of the network.
        base: The models underneath, as many as the network blends.
        num_rows: Most rows that attention reads; of more, evenly many.
        num_folds: Parts of the context that are held out in turn to set the gate and
            to see how errors are spread; 0 believes the transformer without asking.
    """

    weights: Any
    config: NetworkConfig = NetworkConfig()  # noqa: RUF009 (frozen)
    base: LeaveOneOut = BLENDED
    num_rows: int = 1000
    num_folds: int = 4

    def __post_init__(self):
        if len(self.base.models) != self.config.num_models:
            raise ValueError(
                f"base must have {self.config.num_models} models, as many as the "
                f"network was trained to blend, got {len(self.base.models)}"
            )

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

    def __repr__(self) -> str:
        """Without the weights."""
        return f"TransformerModel({self.digest[:12]}, {self.config})"

    @property
    def _key(self):
        return self.digest, self.config, self.base, self.num_rows, self.num_folds

    @property
    def head(self) -> Mixture | Bars:
        """The distributions of residuals."""
        return HEADS[self.config.head]()

    def _encode(self, weights, rows: TokenRows) -> NetworkCache:
        network = Network(self.config)
        cache = network.apply({"params": weights}, rows, method="encode")
        return cast(NetworkCache, cache)

    def _decode(self, weights, cache: NetworkCache, query: TokenRows) -> Output:
        network = Network(self.config)
        output = network.apply({"params": weights}, cache, query, method="decode")
        return cast(Output, output)

    @property
    def parts(self) -> tuple[ClosedForm, ...]:
        """Models that are fitted one by one before `read` puts them together."""
        return self.base.models

    def fit(self, context: Context) -> ModelCache:
        """Read a context.

        Raises:
            ValueError: If it has more dimensions than the model holds.
        """
        return self.read(context, [part.fit_scored(context) for part in self.parts])

    def read(self, context: Context, found: Sequence[Fitted]) -> ModelCache:
        """Read a context to which the models underneath have been fitted.

        Args:
            context: The rows.
            found: The fits of all `parts`.

        Raises:
            ValueError: If it has more dimensions than the model holds.
        """
        check_sizes(context)
        weights = jax.tree.map(jnp.asarray, self.weights)
        fits, *left_out = gather(context, found)
        scales, rows, queries = read_context(context, *left_out)
        if context.num_rows > self.num_rows:
            kept = np.linspace(0, context.num_rows - 1, self.num_rows).astype(int)
            rows, queries = jax.tree.map(lambda x: x[kept], (rows, queries))
        termination = Termination.fit(context)
        trial = Trial.believing(context.obs_size + 1)
        if self.num_folds:
            is_alone = _is_known_alone(context, scales)
            trial = self._try(weights, scales, rows, queries, is_alone)
            # A classifier without a mistake needs no help either.
            said = jax.vmap(termination.logit)(context.next_obs, context.action) > 0
            is_wrong = context.mask * (said != (context.terminated > 0))
            trial = dataclasses.replace(
                trial, is_asked=trial.is_asked | jnp.any(is_wrong > 0)
            )
        return ModelCache(
            weights=weights,
            fits=fits,
            scales=scales,
            network=self._encode(weights, rows),
            gate=trial.gate * trial.is_blended * scales.is_live,
            is_blended=trial.is_blended,
            is_asked=trial.is_asked,
            termination=termination,
            unit=trial.unit,
            usual=trial.usual,
            tails=trial.tails,
        )

    def _try(
        self,
        weights,
        scales: ContextScales,
        rows: TokenRows,
        queries: TokenRows,
        is_alone: jax.Array,
    ) -> Trial:
        """Try the transformer on rows that are held out from it in turn.

        Args:
            weights: Of the network.
            scales: Of the context.
            rows: Its rows.
            queries: The same as the other rows predict them.
            is_alone: Targets that are not blended in any case, bool [S + 1].
        """
        num_rows = len(rows.mask)
        size = -(-num_rows // self.num_folds)

        def one_fold(fold):
            index = jnp.arange(size) * self.num_folds + fold
            is_row = index < num_rows
            index = jnp.minimum(index, num_rows - 1)
            place = jnp.arange(num_rows)
            others = rows.mask * (place % self.num_folds != fold)
            features = rows.features * others[:, None]
            kept = dataclasses.replace(rows, mask=others, features=features)
            cache = self._encode(weights, kept)
            asked = jax.tree.map(lambda x: x[index], queries)
            output = self._decode(weights, cache, asked)
            _, simple = blend_of(trust_of(cache.error, asked), asked)
            in_use = (is_row * rows.mask[index])[:, None]
            of_base = rows.residual[index]
            left = of_base - output.blend
            found = tuple(in_use * x for x in (self._shift(output), left, of_base))
            return *found, self._spread(output), simple, self._doubt(asked), in_use

        found = jax.lax.map(one_fold, jnp.arange(self.num_folds))
        found = (x.reshape(-1, x.shape[-1]) for x in found)
        guess, truth, of_base, spread, simple, doubt, in_use = found
        power = jnp.square(guess).sum(0) + 1e-12
        factor = (guess * truth).sum(0) / power
        # Of a regression through the origin whose noise may differ between rows.
        error = jnp.square(guess / power * (truth - factor * guess)).sum(0)
        # Before the rows say anything, the factor is taken to be 1 +- 0.5.
        certainty = _GATE_VARIANCE / (_GATE_VARIANCE + error)
        gate = jnp.clip(1.0 + certainty * (factor - 1.0), 0.0, 1.0)
        shifted, blend, alone = (
            jnp.square(x).sum(0) for x in (truth - gate * guess, truth, of_base)
        )
        is_blended = (alone >= _FAR_BETTER * shifted) & ~is_alone
        is_worth = (shifted < _WORTH_IT * blend) & is_blended
        is_worth = is_worth & (scales.residual > _EXACT * scales.target.std)
        is_asked = jnp.any(is_worth & (scales.is_live > 0))
        gate = jnp.where(is_asked, gate, 0.0)
        spread = jnp.where(is_asked, spread, simple)
        std = jnp.hypot(spread, doubt)
        error = jnp.where(is_blended, truth - gate * guess, of_base)
        tails, unit = Tails.fit(error / std, in_use[:, 0]).standardised()
        return Trial(
            gate=gate,
            is_blended=is_blended.astype(jnp.float32),
            is_asked=is_asked,
            unit=unit,
            usual=usual_of(spread, in_use[:, 0]),
            tails=tails,
        )

    def _shift(self, output: Output) -> jax.Array:
        """Mean of what is added to the blend."""
        return output.shift + output.scale * self.head.mean(output.params)

    def _spread(self, output: Output) -> jax.Array:
        """Standard deviation of what is predicted."""
        return output.scale * self.head.std(output.params)

    @cached_property
    def _unlike(self) -> tuple[int, int] | None:
        """Places of a kernel and an ensemble of networks in the base, if it has both.

        Where no row has been they go on in different ways.
        """
        kinds = [type(model) for model in self.base.models]
        if KernelRidge in kinds and MLPEnsemble in kinds:
            return kinds.index(KernelRidge), kinds.index(MLPEnsemble)
        return None

    def _doubt(self, query: TokenRows) -> jax.Array:
        """What is added to a deviation where models disagree, [M, S + 1]."""
        if self._unlike is None:
            return jnp.zeros_like(query.models[:, 0])
        one, other = (query.models[:, place] for place in self._unlike)
        return _DOUBT * (one - other)

    def _ask(self, cache: ModelCache, obs, action) -> Answer:
        """What models and network say about one query."""
        means, stds = self.base.predict_each(cache.fits, obs, action)
        means, stds = means[:, None], stds[:, None]
        query = read_query(cache.scales, obs[None], action[None], means, stds)
        logits = trust_of(cache.network.error, query)
        blend, simple = (x[0] for x in blend_of(logits, query))

        def with_network():
            output = self._decode(cache.weights, cache.network, query)
            shift, spread = cache.gate * self._shift(output), self._spread(output)
            return shift[0], spread[0], output.terminated[0]

        def without():
            return jnp.zeros_like(blend), simple, jnp.zeros_like(blend[0])

        shift, spread, end = jax.lax.cond(cache.is_asked, with_network, without)
        scales = cache.scales
        moved = cache.is_blended * blend + shift
        live = scales.residual * scales.is_live
        doubted = cache.unit * jnp.hypot(spread, self._doubt(query)[0])
        return Answer(
            mean=base_of(scales, means)[0] + scales.residual * moved,
            std=live * doubted,
            unknown_std=live * beyond(spread, cache.usual),
            end=end,
            rewards=jnp.stack([means[:, 0, -1], stds[:, 0, -1]], axis=1),
        )

    def predict(self, cache: ModelCache, obs: jax.Array, action: jax.Array):
        """Predict one step.

        Args:
            cache: What ``fit`` returned.
            obs: Observation [S].
            action: Action vector [A], one-hot if discrete.
        """
        answer = self._ask(cache, obs, action)
        next_obs = obs + answer.mean[:-1]
        return Prediction(
            next_obs_mean=next_obs,
            next_obs_std=answer.std[:-1],
            reward_mean=answer.mean[-1],
            reward_std=answer.std[-1],
            terminated_prob=_end(cache, answer, next_obs, action),
            tails=cache.tails,
            unknown_std=answer.unknown_std[:-1],
            internal=answer,
        )

    def outcome(self, cache: ModelCache, obs, action, next_obs, prediction: Prediction):
        """See `oswm.world_model`; the models underneath look at `next_obs` again."""
        answer = prediction.internal
        models = zip(self.base.models, cache.fits, answer.rewards, strict=True)
        rewards = jnp.stack(
            [
                jnp.stack(
                    model.reward_at(fit, obs, action, next_obs, (said[0], said[1]))
                )
                for model, fit, said in models
            ]
        )
        shift = self._reward_of(cache, rewards) - self._reward_of(cache, answer.rewards)
        end = _end(cache, answer, next_obs, action)
        return shift, cache.termination.chance(end)

    def _reward_of(self, cache: ModelCache, rewards: jax.Array) -> jax.Array:
        """The blend of what models say of the reward, means and deviations [K, 2]."""
        scales = cache.scales
        unit, choice = scales.residual[-1], scales.choice[:, -1]
        means, stds = rewards.T
        base = jnp.sum(choice * means)
        spread = spread_of(stds / unit)
        weights = jax.nn.softmax(trust(cache.network.error[:, -1], spread))
        blend = jnp.sum(weights * (means - base))
        return base + cache.is_blended[-1] * scales.is_live[-1] * blend

    def sample(self, cache: ModelCache, obs, action, key: jax.Array):
        """Draw next observation [S], reward and termination of one step."""
        return drawn_step(self, cache, obs, action, key)


@struct.dataclass
class Trial:
    """What rows that are held out from the transformer say about it.

    Attributes:
        gate: How far its shifts are believed, 0 to 1, [S + 1].
        is_blended: As in `ModelCache`.
        is_asked: Likewise.
        unit: Likewise.
        usual: Likewise.
        tails: Likewise.
    """

    gate: jax.Array
    is_blended: jax.Array
    is_asked: jax.Array
    unit: jax.Array
    usual: jax.Array
    tails: Tails

    @classmethod
    def believing(cls, num_targets: int) -> Trial:
        """Without asking: the transformer is right, and errors are Gaussian."""
        ones, zeros = jnp.ones(num_targets), jnp.zeros(num_targets)
        tails = Tails.gaussian(num_targets)
        return cls(ones, ones, jnp.bool_(True), ones, zeros, tails)


@struct.dataclass
class Answer:
    """To one query.

    Attributes:
        mean: Of the targets, [S + 1].
        std: Their standard deviations, [S + 1].
        unknown_std: As for `Prediction`, but of all targets, [S + 1].
        end: The network's logit of an end; without meaning if it was not asked.
        rewards: What each model says of the reward, mean and deviation, [K, 2].
    """

    mean: jax.Array
    std: jax.Array
    unknown_std: jax.Array
    end: jax.Array
    rewards: jax.Array


def _is_known_alone(context: Context, scales: ContextScales) -> jax.Array:
    """Targets of which rows left out say all that there is to say, bool [S + 1].

    Between whole numbers there is nothing to be smooth. If all observations are, and
    the best model is far better than any other on rows left out, it is everywhere.
    """
    is_whole = (context.obs == jnp.round(context.obs)) | (context.mask[:, None] == 0)
    second = jnp.sort(scales.error, axis=0)[1]
    return jnp.all(is_whole) & (second > _FAR_ERROR)


def _end(cache: ModelCache, answer: Answer, next_obs, action) -> jax.Array:
    """Probability of an end: the mean of what network and classifier think, as logits.

    The classifier knows where it ends if half-spaces and ellipsoids say it, the network
    looks at the rows nearby. A threshold that tells all ends needs no network.
    """
    logit = cache.termination.logit(next_obs, action)
    both = 0.5 * (logit + answer.end)
    is_both = cache.is_asked & ~jnp.all(cache.termination.is_rule)
    return jax.nn.sigmoid(jnp.where(is_both, both, logit))


def can_read(context: Context) -> bool:
    """Whether the transformer holds as many dimensions as a context has."""
    return context.obs_size <= MAX_STATES and context.action_size <= MAX_ACTIONS


def check_sizes(context: Context) -> None:
    """Raise ValueError if a context has more dimensions than the model holds."""
    for name, size, most in (
        ("obs", context.obs_size, MAX_STATES),
        ("action", context.action_size, MAX_ACTIONS),
    ):
        if size > most:
            raise ValueError(
                f"{name} must have at most {most} dimensions, got {size}; "
                "leave some out, or take a closed-form model such as "
                "model=oswm.LeaveOneOut()"
            )

"""The evolution strategy of Ferreira et al. (2022, ICLR, arXiv 2202.02790).

One generation trains on the search mean itself as often as on each side of the noise.
Of two mirrored candidates the better one alone counts, and a score transform turns the
scores of the pairs into weights of their noise:

    mean <- (1 - weight_decay) * mean + learning_rate * sum_i F_i * eps_i

Nothing is divided by the number of pairs or by the standard deviation, so the step
scales with both. Their code (`GTN_master`) is the source of all of this.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree

from jaxrl_runs import values
from jaxrl_runs.values import FLAG, Number, OneOf, setting
from jaxrl_se.networks import Weights

_MARGIN = 1e-6  # By which a score has to be better than the baseline.


def linear(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    """Scores between 0 for the worst and 1 for the best."""
    del baseline
    low, high = jnp.min(scores), jnp.max(scores)
    return (scores - low) / (high - low + 1e-9)


def rank(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    """Ranks between 0 for the worst and 1 for the best; ties by position."""
    del baseline
    return jnp.argsort(jnp.argsort(scores)) / (scores.size - 1)


def nes_unnormalized(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    """Utilities of Wierstra et al. (2014) without their mean of zero, 1 at best."""
    utilities = _utilities(scores)
    del baseline
    return utilities / jnp.max(utilities)


def nes(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    """Utilities of Wierstra et al. (2014), scaled to 1 at best; ties by position."""
    utilities = _utilities(scores)
    del baseline
    utilities = utilities / jnp.sum(utilities) - 1 / scores.size
    return utilities / jnp.max(utilities)


def single_best(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    """1 for the best alone."""
    del baseline
    return jax.nn.one_hot(jnp.argmax(scores), scores.size)


def single_better(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    """1 for the best alone, and only if it is better than the baseline."""
    is_better = jnp.max(scores) > baseline + _MARGIN
    return single_best(scores, baseline) * is_better


def all_better_1(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    """Advantages over the baseline where positive, scaled to 1 at best."""
    advantages = _advantages(scores, baseline)
    return advantages / jnp.maximum(jnp.max(advantages), 1e-30)


def all_better_2(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    """Advantages over the baseline where positive, scaled to a sum of 1."""
    advantages = _advantages(scores, baseline)
    return advantages / jnp.maximum(jnp.sum(advantages), 1e-30)


def _utilities(scores: jax.Array) -> jax.Array:
    ranks = jnp.argsort(jnp.argsort(-scores)) + 1
    return jnp.maximum(jnp.log(scores.size / 2 + 1) - jnp.log(ranks), 0.0)


def _advantages(scores: jax.Array, baseline: jax.Array) -> jax.Array:
    advantages = (scores - baseline) / (jnp.max(scores) - baseline + 1e-9)
    return jnp.where(scores > baseline + _MARGIN, advantages, 0.0)


# In the order of their `score_transform_type`, 0 to 7. Each maps the scores `[n]` of
# the pairs and the mean score of the search mean to weights `[n]`.
SCORE_TRANSFORMS = {
    "linear": linear,
    "rank": rank,
    "nes": nes,
    "nes-unnormalized": nes_unnormalized,
    "single-best": single_best,
    "single-better": single_better,
    "all-better-1": all_better_1,
    "all-better-2": all_better_2,
}


@dataclasses.dataclass(frozen=True)
class FerreiraES:
    """Options of the strategy; an `EvolutionConfig.strategy`.

    The search distribution's standard deviation and the step are `std` and
    `strategy_learning_rate` of `EvolutionConfig`, whose `population_size` counts all
    candidates that are trained: three times their population with mirrored sampling (48
    for their 16).

    Attributes:
      score_transform: A name in `SCORE_TRANSFORMS`.
      mirrored: Whether noise is tried with both signs and the better one counts.
      weight_decay: Part of the search mean that each generation takes away.
    """

    score_transform: str = setting("all-better-2", OneOf(tuple(SCORE_TRANSFORMS)))
    mirrored: bool = setting(True, FLAG)
    weight_decay: float = setting(0.0, Number(at_least=0.0, below=1.0))

    def __post_init__(self):
        values.check(self)

    @property
    def candidates_per_noise(self) -> int:
        """The search mean, and the noise with one sign or both."""
        return 3 if self.mirrored else 2

    def check(self, population_size: int) -> None:
        """Raises ValueError for a population that is not made of whole parts."""
        parts = self.candidates_per_noise
        if population_size % parts or population_size < 2 * parts:
            raise ValueError(
                f"population_size must be a multiple of {parts} and at least "
                f"{2 * parts}: FerreiraES trains on the search mean as often as on "
                f"{'either sign of' if self.mirrored else ''} the noise, got "
                f"{population_size}"
            )


@struct.dataclass
class FerreiraESState:
    """State of the search.

    Attributes:
      mean: float32 `[D]`, the search mean.
      best_mean: float32 `[D]`, the search mean that scored best so far, their result.
      best_score: float32 scalar, its score.
    """

    mean: jax.Array
    best_mean: jax.Array
    best_score: jax.Array


@struct.dataclass
class FerreiraESParams:
    """Numbers of the search.

    Attributes:
      std: Standard deviation of the noise.
      learning_rate: Step size.
      weight_decay: See `FerreiraES`.
    """

    std: float
    learning_rate: float
    weight_decay: float


class FerreiraAlgorithm:
    """The strategy with the methods of an evosax algorithm; it minimises, as they do.

    Args:
      options: Options.
      population_size: All candidates of a generation.
      solution: A pytree of the shape of one candidate.
    """

    def __init__(self, options: FerreiraES, population_size: int, solution: Weights):
        options.check(population_size)
        self.options = options
        self.num_noise = population_size // options.candidates_per_noise
        flat, self._unravel = ravel_pytree(solution)
        self.num_dims = flat.size

    def init(
        self, key: jax.Array, mean: Weights, params: FerreiraESParams
    ) -> FerreiraESState:
        """The state of a search that starts at `mean`."""
        del key, params
        flat = ravel_pytree(mean)[0]
        return FerreiraESState(flat, flat, jnp.float32(-jnp.inf))

    def ask(
        self, key: jax.Array, state: FerreiraESState, params: FerreiraESParams
    ) -> tuple[Weights, FerreiraESState]:
        """The search mean `n` times, then mean + noise, then mean - noise."""
        noise = params.std * jax.random.normal(key, (self.num_noise, self.num_dims))
        parts = [jnp.broadcast_to(state.mean, noise.shape), state.mean + noise]
        if self.options.mirrored:
            parts.append(state.mean - noise)
        return jax.vmap(self._unravel)(jnp.concatenate(parts)), state

    def tell(
        self,
        key: jax.Array,
        population: Weights,
        fitness: jax.Array,
        state: FerreiraESState,
        params: FerreiraESParams,
    ) -> tuple[FerreiraESState, dict]:
        """Moves the search mean; a failed candidate counts as the worst of the rest."""
        del key
        scores = -fitness
        is_finite = jnp.isfinite(scores)
        worst = jnp.min(scores, where=is_finite, initial=jnp.inf)
        worst = jnp.where(jnp.isfinite(worst), worst, 0.0)
        own, *scores = jnp.split(
            jnp.where(is_finite, scores, worst), self.options.candidates_per_noise
        )
        own_score = jnp.mean(own)
        flat = jax.vmap(lambda candidate: ravel_pytree(candidate)[0])(population)
        noise = flat[self.num_noise : 2 * self.num_noise] - state.mean
        score = scores[0]
        if self.options.mirrored:
            score, noise = best_of_pairs(score, scores[1], noise)
        weights = SCORE_TRANSFORMS[self.options.score_transform](score, own_score)
        mean = state.mean * (1 - params.weight_decay)
        mean = mean + params.learning_rate * (weights @ noise)
        is_best = own_score > state.best_score
        best_mean = jnp.where(is_best, state.mean, state.best_mean)
        best_score = jnp.where(is_best, own_score, state.best_score)
        return FerreiraESState(mean, best_mean, best_score), {}

    def get_mean(self, state: FerreiraESState) -> Weights:
        """The search mean."""
        return self._unravel(state.mean)

    def get_best_mean(self, state: FerreiraESState) -> Weights:
        """The search mean that scored best so far."""
        return self._unravel(state.best_mean)


def best_of_pairs(
    plus: jax.Array, minus: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The better score of each mirrored pair `[n]`, and its noise `[n, D]`."""
    sign = jnp.where(minus > plus, -1.0, 1.0)
    return jnp.maximum(plus, minus), sign[:, None] * noise


def algorithm_and_params(
    options: FerreiraES,
    population_size: int,
    solution: Weights,
    std: float,
    learning_rate: float,
) -> tuple[FerreiraAlgorithm, Any]:
    """What `jaxrl_se.strategies.Strategy` is made of."""
    params = FerreiraESParams(std, learning_rate, options.weight_decay)
    return FerreiraAlgorithm(options, population_size, solution), params

"""Evolution strategies by name, on evosax, made safe for noisy and failing fitness.

Here fitness is *higher is better*; evosax minimises, and the sign changes in
`Strategy.tell` alone.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl_se.ferreira_es import FerreiraES, algorithm_and_params
from jaxrl_se.networks import Weights

STRATEGIES = ("snes", "openai-es", "pgpe", "sep-cma-es", "cma-es", "xnes", "ars")
_ANTITHETIC = ("openai-es", "pgpe", "ars")
_RECOMBINING = ("sep-cma-es", "cma-es")


def check_strategy(name: str | FerreiraES, population_size: int) -> None:
    """Raises ValueError for an unknown strategy or a population that it cannot take."""
    if isinstance(name, FerreiraES):
        name.check(population_size)
        return
    if not isinstance(name, str) or name not in STRATEGIES:
        close = difflib.get_close_matches(str(name).lower(), STRATEGIES, n=2)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(
            f"strategy must be one of {', '.join(STRATEGIES)} or a FerreiraES, got "
            f"{name!r}{hint}"
        )
    if population_size < 4:
        raise ValueError(f"population_size must be at least 4, got {population_size}")
    if name in _ANTITHETIC and population_size % 2:
        raise ValueError(
            f"population_size must be even: {name} samples antithetic pairs, "
            f"got {population_size}"
        )


def tie_averaged_weights(population, fitness, state, params) -> jax.Array:
    """Rank-based recombination weights, equal for candidates of equal fitness.

    Returns are often tied at a task's maximum; ranking ties by their position would
    add a direction that nobody measured. Each tied candidate gets the mean of the
    weights that the tied ranks would have had. An evosax fitness shaping function
    (fitness is minimised, not-a-number ranks worst).
    """
    del population, state
    fitness = jnp.where(jnp.isnan(fitness), jnp.inf, fitness)
    weights = params.weights[jnp.argsort(jnp.argsort(fitness))]
    tied = (fitness[:, None] == fitness[None, :]).astype(weights.dtype)
    return (tied @ weights) / jnp.sum(tied, axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Strategy:
    """An evosax algorithm and its parameters, maximising.

    Attributes:
      name: One of `STRATEGIES` or "ferreira-es".
      algorithm: The evosax algorithm, or one with the same methods.
      params: Its parameters.
      num_means: How many of the first candidates are the search mean itself.
    """

    name: str
    algorithm: Any
    params: Any
    num_means: int = 0

    def init(self, key: jax.Array, mean: Weights) -> Any:
        """Returns the state of a search that starts at `mean`."""
        with jax.debug_nans(False):  # The library fills what it sets later with NaN.
            state = self.algorithm.init(key, mean, self.params)
            filled = jax.tree.map(_without_nan, state)
        return filled.replace(mean=state.mean)  # That it is NaN is to be seen.

    def ask(self, key: jax.Array, state: Any) -> tuple[Weights, Any]:
        """Draws a population: `mean`'s pytree with a leading population axis."""
        return self.algorithm.ask(key, state, self.params)

    def tell(
        self, key: jax.Array, population: Weights, fitness: jax.Array, state: Any
    ) -> Any:
        """Updates the search; fitness `[P]` is maximised and non-finite ranks last."""
        cost = jnp.where(jnp.isfinite(fitness), -fitness, jnp.nan)
        new, _ = self.algorithm.tell(key, population, cost, state, self.params)
        if self.name not in _RECOMBINING:
            return new
        # Their mean goes to the middle of the best candidates, of chance alone here.
        worth = jnp.where(jnp.isnan(cost), jnp.inf, cost)
        says_nothing = jnp.all(worth == worth[0])
        kept = jax.tree.map(lambda a, b: jnp.where(says_nothing, a, b), state, new)
        return kept.replace(
            best_solution=new.best_solution,
            best_fitness=new.best_fitness,
            generation_counter=new.generation_counter,
        )

    def mean(self, state: Any) -> Weights:
        """The mean of the search distribution."""
        return self.algorithm.get_mean(state)

    def scaled(self, state: Any, factor: float) -> Any:
        """The state with standard deviations so many times as large."""
        return state.replace(std=state.std * jnp.asarray(factor, state.std.dtype))

    def result(self, state: Any) -> Weights:
        """What an evolution returns: the mean, or the best one where it was scored."""
        if self.num_means:
            return self.algorithm.get_best_mean(state)
        return self.mean(state)


def _without_nan(leaf: Any) -> Any:
    """Zeros where a state has nothing yet: JAX_DEBUG_NANS is to find what is wrong."""
    leaf = jnp.asarray(leaf)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    return jnp.where(jnp.isnan(leaf), 0, leaf)


def make_strategy(
    name: str | FerreiraES,
    population_size: int,
    solution: Weights,
    *,
    std: float,
    learning_rate: float,
) -> Strategy:
    """Builds a strategy.

    Args:
      name: One of `STRATEGIES`, or a `FerreiraES`.
      population_size: Candidates per generation; even for antithetic sampling.
      solution: A pytree of the shape of one candidate.
      std: Initial standard deviation of the search distribution.
      learning_rate: Adam's step for the mean of `openai-es` and `pgpe`; a factor on
        the natural-gradient step of `snes` and `xnes`; unused by the CMA strategies.

    Raises:
      ValueError: See `check_strategy`.
    """
    # Importing evosax's algorithms starts JAX's backend, after which the number of CPU
    # devices cannot be chosen any more.
    from evosax.algorithms import ARS, CMA_ES, PGPE, SNES, Open_ES, Sep_CMA_ES, xNES
    from evosax.core.fitness_shaping import centered_rank_fitness_shaping_fn

    check_strategy(name, population_size)
    size = population_size
    if isinstance(name, FerreiraES):
        algorithm, params = algorithm_and_params(
            name, size, solution, std, learning_rate
        )
        return Strategy("ferreira-es", algorithm, params, algorithm.num_noise)
    if name in ("openai-es", "ars"):
        kind, optimizer = {
            "openai-es": (Open_ES, optax.adam),
            "ars": (ARS, optax.sgd),
        }[name]
        algorithm = kind(
            size,
            solution,
            optimizer=optimizer(learning_rate),
            std_schedule=optax.constant_schedule(std),
            fitness_shaping_fn=centered_rank_fitness_shaping_fn,
        )
        return Strategy(name, algorithm, algorithm.default_params)
    if name == "pgpe":
        algorithm = PGPE(
            size,
            solution,
            optimizer=optax.adam(learning_rate),
            fitness_shaping_fn=centered_rank_fitness_shaping_fn,
        )
    elif name in ("snes", "xnes"):
        algorithm = {"snes": SNES, "xnes": xNES}[name](
            size,
            solution,
            optimizer=optax.sgd(learning_rate),
            fitness_shaping_fn=tie_averaged_weights,
        )
    else:
        algorithm = {"sep-cma-es": Sep_CMA_ES, "cma-es": CMA_ES}[name](
            size, solution, fitness_shaping_fn=tie_averaged_weights
        )
    params = algorithm.default_params
    std_init = jnp.asarray(std, jnp.result_type(params.std_init))
    return Strategy(name, algorithm, params.replace(std_init=std_init))

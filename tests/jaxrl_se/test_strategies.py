"""Evolution strategies: they improve, and only ranks matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_se import EvolutionConfig
from jaxrl_se.strategies import STRATEGIES, make_strategy, tie_averaged_weights

SIZE = 10
SOLUTION = {"a": np.zeros(3, np.float32), "b": np.zeros((2, 1), np.float32)}
# Learning rates of a sensible size for each optimizer; `snes` and `xnes` scale their
# natural step, the others are absolute, the CMA strategies have none.
RATES = {"openai-es": 0.1, "pgpe": 0.1, "ars": 0.1}


def make(name, population_size=SIZE):
    rate = RATES.get(name, 1.0)
    return make_strategy(name, population_size, SOLUTION, std=0.3, learning_rate=rate)


def sphere(population):
    """Higher is better, 0 at best: minus the squared distance from (1, ..., 1)."""
    leaves = jax.tree.leaves(population)
    return -sum(jnp.sum((x - 1) ** 2, axis=tuple(range(1, x.ndim))) for x in leaves)


TRANSFORMS = {
    "plain": lambda f: f,
    "monotone": lambda f: -jnp.sqrt(-f) * 8 - 3,
    "failing": lambda f: f.at[2].set(jnp.nan).at[3].set(jnp.inf).at[4].set(-jnp.inf),
    "worst": lambda f: f.at[2:5].set(-1e30),
}


@pytest.fixture(scope="module", params=STRATEGIES)
def searched(request):
    """A strategy, and its mean after 60 generations under each transform."""
    strategy = make(request.param)

    def search(transform):
        def generation(state, key):
            key_ask, key_tell = jax.random.split(key)
            population, state = strategy.ask(key_ask, state)
            fitness = sphere(population)
            fitness = jnp.stack([f(fitness) for f in TRANSFORMS.values()])[transform]
            return strategy.tell(key_tell, population, fitness, state), None

        state = strategy.init(jax.random.key(0), SOLUTION)
        keys = jax.random.split(jax.random.key(1), 60)
        return strategy.mean(jax.lax.scan(generation, state, keys)[0])

    means = jax.jit(lambda x: jax.lax.map(search, x))(jnp.arange(len(TRANSFORMS)))
    return strategy, {
        name: jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), means)
        for i, name in enumerate(TRANSFORMS)
    }


def test_improves_on_a_sphere(searched):
    _, means = searched
    start, end = (
        float(sphere(jax.tree.map(lambda x: x[None], mean))[0])
        for mean in (SOLUTION, means["plain"])
    )
    assert start == -5 and end > -0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("plain", "monotone"),  # only ranks matter
        ("failing", "worst"),  # NaN and both infinities are worth the worst fitness
    ],
)
def test_transforms_of_equal_ranks_search_alike(searched, one, other):
    _, means = searched
    for a, b in zip(*(jax.tree.leaves(means[x]) for x in (one, other)), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_equal_fitnesses_do_not_move_a_search():
    """Of a random search, whose candidates may all be worth the same."""
    strategy = make("ars")
    start = jax.tree.map(lambda x: x + 0.5, SOLUTION)
    state = strategy.init(jax.random.key(0), start)
    for key in jax.random.split(jax.random.key(1), 3):
        population, state = strategy.ask(key, state)
        state = strategy.tell(key, population, jnp.zeros(SIZE), state)
    for found, expected in zip(
        jax.tree.leaves(strategy.mean(state)), jax.tree.leaves(start), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_population_has_the_solutions_structure(searched):
    strategy, _ = searched
    state = jax.eval_shape(lambda k: strategy.init(k, SOLUTION), jax.random.key(0))
    population, _ = jax.eval_shape(strategy.ask, jax.random.key(0), state)
    assert jax.tree.map(jnp.shape, population) == {"a": (SIZE, 3), "b": (SIZE, 2, 1)}


def test_candidates_spread_by_std():
    strategy = make_strategy("snes", 400, SOLUTION, std=0.2, learning_rate=1.0)
    state = strategy.init(jax.random.key(0), SOLUTION)
    population, _ = jax.jit(strategy.ask)(jax.random.key(1), state)
    np.testing.assert_allclose(np.std(population["a"], axis=0), 0.2, rtol=0.2)


class _Params:
    weights = jnp.array([0.6, 0.3, 0.2, 0.0, -0.4])


def _weights(fitness):
    return np.asarray(tie_averaged_weights(None, jnp.asarray(fitness), None, _Params))


def test_ties_share_their_weights():
    np.testing.assert_allclose(
        _weights([3.0, 1.0, 2.0, 5.0, 4.0]), [0.2, 0.6, 0.3, -0.4, 0.0], rtol=1e-6
    )
    np.testing.assert_allclose(
        _weights([1.0, 0.0, 1.0, 1.0, 2.0]), [1 / 6, 0.6, 1 / 6, 1 / 6, -0.4], rtol=1e-5
    )
    np.testing.assert_allclose(_weights([1.0] * 5), [0.14] * 5, rtol=1e-5)
    np.testing.assert_allclose(
        _weights([1.0, np.nan, 0.0, np.nan, 2.0]),
        [0.3, -0.2, 0.6, -0.2, 0.2],
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_deviation_is_scaled(name):
    strategy, key = make(name), jax.random.key(0)
    state = strategy.init(key, jax.tree.map(jnp.asarray, SOLUTION))
    first, _ = strategy.ask(key, state)
    second, _ = strategy.ask(key, strategy.scaled(state, 0.1))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(b, 0.1 * np.asarray(a), rtol=1e-5)


def test_weights_follow_a_permutation():
    fitness = np.array([1.0, 0.0, 1.0, np.nan, 2.0])
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(_weights(fitness[order]), _weights(fitness)[order])


@pytest.mark.parametrize(
    ("name", "population_size", "message"),
    [
        ("sness", 8, "strategy must be one of .* did you mean 'snes'"),
        ("OpenAI_ES", 8, "did you mean 'openai-es'"),
        ("genetic", 8, "strategy must be one of .*got 'genetic'"),
        ("snes", 3, "population_size must be at least 4, got 3"),
        ("snes", -2, "population_size must be .*at least (4|1), got -2"),
        ("openai-es", 9, "population_size must be even.*got 9"),
        ("pgpe", 7, "population_size must be even.*got 7"),
    ],
)
def test_bad_arguments_are_named(name, population_size, message):
    with pytest.raises(ValueError, match=message):
        make_strategy(name, population_size, SOLUTION, std=0.1, learning_rate=1.0)
    with pytest.raises(ValueError, match=message):
        EvolutionConfig(strategy=name, population_size=population_size)

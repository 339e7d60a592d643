"""The preset of Ferreira et al. (2022): golden vectors of their code, rules, a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import sine_weights

import envs
from jaxrl_runs.devices import population_mesh
from jaxrl_se import DDQN, Plateau, Spaces, SyntheticConfig, evolve, train
from jaxrl_se.ferreira_es import SCORE_TRANSFORMS, FerreiraES
from jaxrl_se.generation import Generation
from jaxrl_se.presets import ferreira2022
from jaxrl_se.strategies import make_strategy

GOLDEN_WEIGHTS = [  # of scores 1, 0, 5, 3 with a baseline of 1.5, by their number
    [0.2, 0, 1, 0.6],
    [1 / 3, 0, 1, 2 / 3],
    [-0.520375, -0.520375, 1, 0.04075],
    [0, 0, 1, 0.36907],
    [0, 0, 1, 0],
    [0, 0, 1, 0],
    [0, 0, 1, 0.428571],
    [0, 0, 0.7, 0.3],
]


@pytest.mark.parametrize("number", range(8))
def test_golden_score_transforms(number):
    transform = list(SCORE_TRANSFORMS.values())[number]
    weights = transform(jnp.array([1.0, 0.0, 5.0, 3.0]), jnp.float32(1.5))
    np.testing.assert_allclose(weights, GOLDEN_WEIGHTS[number], atol=1e-6)


def test_golden_utilities_of_sixteen():
    scores, baseline = jnp.arange(16.0)[::-1], jnp.float32(0)
    nes = SCORE_TRANSFORMS["nes"](scores, baseline)
    top = [1, 0.6065, 0.3763, 0.213, 0.0863, -0.0172, -0.1048, -0.1806]
    np.testing.assert_allclose(nes, top + [-0.2474] * 8, atol=1e-4)
    unnormalized = SCORE_TRANSFORMS["nes-unnormalized"](scores, baseline)
    top = [1, 0.6845, 0.5, 0.3691, 0.2675, 0.1845, 0.1144, 0.0536]
    np.testing.assert_allclose(unnormalized, top + [0] * 8, atol=1e-4)


@pytest.mark.parametrize("name", list(SCORE_TRANSFORMS)[5:])
def test_nothing_better_than_the_baseline_moves_nothing(name):
    weights = SCORE_TRANSFORMS[name](jnp.array([1.0, 2.0, 2.0]), jnp.float32(2.0))
    np.testing.assert_array_equal(weights, 0)


def test_golden_steps_of_the_tuned_cartpole_environment():
    env, params = ferreira2022("CartPole-v0").proxy.make(*envs.make("CartPole-v0"))
    networks = env.networks()
    order = ("next_obs", "reward", "terminated")
    weights = {
        name: sine_weights(networks[name], first=4 * i) for i, name in enumerate(order)
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == 2247
    params = params.replace(weights=weights)
    golden = [  # action, next observation, reward, raw output of the third network
        (0, [0.114141, 0.192472, 0.004943, -0.13263], 0.141807, 0.285776),
        (1, [0.135995, 0.195762, -0.015268, -0.146007], 0.123459, 0.292224),
        (1, [0.136389, 0.195972, -0.015558, -0.146362], 0.122441, 0.291466),
    ]
    _, state = env.reset_env(jax.random.key(0), params)
    state = state.replace(obs=jnp.array([0.01, 0.02, 0.03, 0.04]))
    for action, next_obs, reward, done in golden:
        obs, state, r, terminated, info = env.step_env(None, state, action, params)
        np.testing.assert_allclose(obs, next_obs, atol=2e-6)
        np.testing.assert_allclose(r, reward, atol=2e-6)
        np.testing.assert_allclose(1 - info["discount"], done, atol=2e-6)
        assert not terminated


@pytest.mark.parametrize("output", [0.25, 0.51])
def test_the_raw_output_weighs_the_bootstrap(output):
    """Values are 1 + 0.9 * (1 - output) * value, whether or not the episode ends."""
    config = SyntheticConfig(
        variant="multi-step",
        hidden_sizes=(),
        obs_range=None,
        learn_termination=True,
        soft_termination=True,
    )
    env = config.build(Spaces(4, 2))
    weights = jax.tree.map(jnp.zeros_like, env.init_weights(jax.random.key(0)))
    for name, bias in (("reward", 1.0), ("terminated", output)):
        weights[name][0]["bias"] += bias
    params = env.default_params.replace(weights=weights)
    agent = DDQN(
        discount=0.9,
        learning_rate=1e-2,
        target_update_rate=0.1,
        epsilon_end=1.0,
        hidden_sizes=(8,),
    )
    result = train(agent, env, params, jax.random.key(0), 1000)
    assert (result.episodes == 1000) == (output > 0.5)
    q = result.policy.network(result.policy.weights, jnp.zeros(4))
    np.testing.assert_allclose(q, 1 / (1 - 0.9 * (1 - output)), rtol=0.05)


def reference_stop(returns, init_episodes, window=10, tolerance=0.01):
    """The number of episodes after which their code of 2020 ends, or None."""
    for episode in range(len(returns)):
        seen = returns[: episode + 1]
        new = np.mean(seen[-window:])
        old = seen[max(len(seen) - 2 * window, 0) : max(len(seen) - window, 0)]
        old = np.mean(old) if old else 0.0
        is_close = abs(new - old) / (abs(old) + 1e-9) < tolerance
        if is_close and episode > init_episodes + window:
            return episode + 1
    return None


@pytest.mark.parametrize(("task", "init_episodes"), [("CartPole-v0", 1)])
def test_plateau_stops_where_their_code_does(task, init_episodes):
    rule = ferreira2022(task).stop

    @jax.jit
    def stop(returns):
        def one(state, total):
            state = rule.update(state, total, jnp.bool_(True))
            return state, rule.fired(state)

        return jax.lax.scan(one, rule.init(), returns)[1]

    generator = np.random.default_rng(0)
    stops = []
    for _ in range(200):
        # Levels that drift: the rule fires early, late and not at all.
        level = 100 * 1.1 ** generator.normal(0, 0.3, 40).cumsum()
        returns = (level + generator.normal(0, 3, 40)).astype(np.float32)
        fired = np.flatnonzero(np.asarray(stop(returns)))
        expected = reference_stop(returns.tolist(), init_episodes)
        assert (fired[0] + 1 if fired.size else None) == expected
        stops.append(expected)
    assert 13 in stops and None in stops  # at once, with two episodes before, and never
    assert any(s is not None and s > 21 for s in stops)


def test_plateau_waits_for_full_windows_by_default():
    rule, state = Plateau(min_episodes=0), Plateau().init()
    for episode in range(1, 21):
        state = rule.update(state, jnp.float32(7.0), jnp.bool_(True))
        assert bool(rule.fired(state)) == (episode == 20)


SOLUTION = {"a": np.float32([1.0, 2.0]), "b": np.float32([[3.0]])}


def flat(weights):
    leaves = [np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(weights)]
    return np.concatenate(leaves, axis=1)


def ask_and_tell(options, size, fitness):
    strategy = make_strategy(options, size, SOLUTION, std=0.1, learning_rate=0.7)
    state = strategy.init(jax.random.key(0), SOLUTION)
    population, state = strategy.ask(jax.random.key(1), state)
    fitness = jnp.asarray(fitness, jnp.float32)
    told = strategy.tell(jax.random.key(2), population, fitness, state)
    mean = np.concatenate([np.ravel(x) for x in jax.tree.leaves(strategy.mean(told))])
    return strategy, flat(population), told, mean


def test_the_better_of_a_pair_moves_the_mean():
    fitness = [1, 2, 1, 2, 1, 0, 0, 3, 0, -1, 5, 2]
    options = FerreiraES("linear", weight_decay=0.1)
    strategy, population, _, mean = ask_and_tell(options, 12, fitness)
    assert strategy.num_means == 4
    center = np.float32([1, 2, 3])
    np.testing.assert_array_equal(population[:4], [center] * 4)
    noise = population[4:8] - center
    np.testing.assert_allclose(population[8:] - center, -noise, atol=1e-6)
    assert 0.05 < np.std(noise) < 0.2
    noise[2] *= -1  # the second sign was better there
    weights = np.float32([0.2, 0, 1, 0.6])  # of the better scores 1, 0, 5, 3
    expected = 0.9 * center + 0.7 * weights @ noise
    np.testing.assert_allclose(mean, expected, atol=1e-5)


def test_without_mirrored_noise():
    options = FerreiraES("all-better-2", mirrored=False)
    _, population, _, mean = ask_and_tell(options, 8, [1, 2, 1, 2, 1, 0, 5, 3])
    noise = population[4:] - population[:4]
    expected = np.float32([1, 2, 3]) + 0.7 * np.float32([0, 0, 0.7, 0.3]) @ noise
    np.testing.assert_allclose(mean, expected, atol=1e-5)


def test_a_failed_candidate_counts_as_the_worst_of_the_rest():
    fitness = np.float32([1, 2, 1, 2, 1, 0, 0, 3, 0, -1, 5, 2])
    failed = fitness.copy()
    failed[[1, 9]] = np.nan, np.inf
    fitness[[1, 9]] = 0  # the worst of the others
    means = [ask_and_tell(FerreiraES("nes"), 12, f)[-1] for f in (fitness, failed)]
    np.testing.assert_array_equal(*means)
    *_, mean = ask_and_tell(FerreiraES("linear"), 12, [np.nan] * 12)
    np.testing.assert_allclose(mean, [1, 2, 3])


def test_the_result_is_the_mean_that_scored_best():
    strategy = make_strategy(FerreiraES(), 6, SOLUTION, std=0.1, learning_rate=1.0)
    state = strategy.init(jax.random.key(0), SOLUTION)
    means = []
    for generation, score in enumerate((1.0, 4.0, 2.0)):
        means.append(strategy.mean(state))
        population, state = strategy.ask(jax.random.key(generation), state)
        fitness = jnp.float32([score, score, 9, 8, 7, 6])
        state = strategy.tell(jax.random.key(0), population, fitness, state)
    jax.tree.map(np.testing.assert_array_equal, strategy.result(state), means[1])
    assert not np.array_equal(strategy.mean(state)["a"], means[1]["a"])


TINY = ferreira2022(
    "CartPole-v0",
    proxy=SyntheticConfig(
        variant="multi-step",
        hidden_sizes=(4,),
        initial_states="target",
        reward_heads=False,
        obs_range=None,
        obs_bound=None,
        max_steps=10,
        learn_termination=True,
        soft_termination=True,
    ),
    agent=DDQN(hidden_sizes=(8,), batch_size=8, epsilon_decay=0.9),
    train_steps=200,
    stop=Plateau(tolerance=0.5, min_episodes=4, window=2, full_windows=False),
    population_size=6,
    fitness_episodes=5,
    max_generations=2,
    validation_agents=2,
)


def test_two_generations():
    result = evolve("CartPole-v0", TINY, 0)
    rows = result.progress.rows
    assert len(rows) == 2 and not result.progress.solved
    for row in rows:  # the search mean is scored in every generation
        assert 8 <= row["validation_mean"] <= row["fitness_best"]
    scores = [row["validation_mean"] for row in rows]
    again = evolve("CartPole-v0", TINY.replace(stop_return=max(scores)), 0)
    assert again.progress.solved
    assert again.progress.generation == 1 + int(np.argmax(scores))


@pytest.mark.parametrize("common", [False, True])
def test_common_random_numbers_are_a_choice(common):
    """The first candidates are one and the same: only their keys can differ."""
    task = envs.make("CartPole-v0")
    config = TINY.replace(common_random_numbers=common)
    proxy = config.proxy.make(*task)
    program, params = Generation.build(task, proxy, config, population_mesh())
    state = program.init(jax.random.key(0))
    _, log = jax.jit(program.step)(jax.random.key(1), state, jnp.int32(0), params)
    assert (log.fitness[0] == log.fitness[1]) == common


@pytest.mark.parametrize(
    ("task", "tuned", "num_weights", "generations"),
    [
        ("CartPole-v0", True, 2247, 200),
        ("Acrobot-v1", True, 6354, 200),
        ("CartPole-v0", False, 3462, 50),
        ("Acrobot-v1", False, 4872, 50),
    ],
)
def test_presets_fit_their_tasks(task, tuned, num_weights, generations):
    config = ferreira2022(task, tuned=tuned)
    env, params = envs.make(task)
    proxy = config.proxy.make(env, params)
    Generation.build((env, params), proxy, config, population_mesh())
    assert sum(x.size for x in jax.tree.leaves(proxy[1].weights)) == num_weights
    assert proxy[1].max_steps_in_episode == params.max_steps_in_episode
    assert config.max_generations == generations
    assert config.population_size == 48


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="task must be one of CartPole-v0, Acrobot-v1"):
        ferreira2022("Pendulum-v1")
    with pytest.raises(ValueError, match="populaton_size: ferreira2022 has no such"):
        ferreira2022("CartPole-v0", populaton_size=48)
    with pytest.raises(
        ValueError, match=r"population_size must be a multiple of 3.*32"
    ):
        ferreira2022("CartPole-v0", population_size=32)
    with pytest.raises(ValueError, match="score_transform must be one of 'linear'"):
        FerreiraES(score_transform="nes2")
    with pytest.raises(ValueError, match="weight_decay must be"):
        FerreiraES(weight_decay=1.0)
    with pytest.raises(ValueError, match="learn_termination must be True"):
        dataclasses.replace(SyntheticConfig(), soft_termination=True)

"""Conditioned environments: contracts, clients, learning, bad input."""

import dataclasses
import functools
import warnings

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
import jaxrl_se
import oswm
from envs import Transitions
from oswm.conditioning import first_rows
from oswm.ends import take_apart
from oswm.support import Support

CARTPOLE = envs.make("CartPole-v0")
FAST = oswm.KernelRidge(
    32, length_scales=(1.0,), penalties=(1e-3,), smoothness=("gaussian",)
)


@pytest.fixture(scope="module")
def cartpole():
    return envs.collect(CARTPOLE, 300, key=0)


@pytest.fixture(scope="module")
def pair(cartpole):
    return oswm.condition(cartpole, max_steps=200, model=oswm.Ridge())


@functools.partial(jax.jit, static_argnums=0)
def roll(env, params, actions, key=0):
    """Observations, rewards and ends of an episode, without autoreset."""

    def step(state, action):
        obs, state, reward, terminated, _ = env.step_env(
            jax.random.key(key), state, action, params
        )
        return state, (obs, reward, terminated)

    _, state = env.reset_env(jax.random.key(key), params)
    return jax.lax.scan(step, state, actions)[1]


@pytest.mark.parametrize(
    "model",
    [
        oswm.Persistence(),
        oswm.Ridge(),
        FAST,
        *(  # `test_closed_form` and tests below fit these; the environment is the same
            pytest.param(model, marks=pytest.mark.slow)
            for model in (
                oswm.NearestNeighbours(),
                oswm.MLPEnsemble(num_members=2, hidden_sizes=(8,), num_updates=20),
                oswm.LeaveOneOut((oswm.Ridge(), oswm.NearestNeighbours())),
                oswm.SubContexts(oswm.Ridge(), num_members=3),
            )
        ),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_model_is_an_environment(cartpole, model):
    env, params = oswm.condition(cartpole, max_steps=5, model=model)
    _, state = env.reset(jax.random.key(0), params)
    outputs = env.step(jax.random.key(1), state, jnp.int32(1), params)
    assert outputs[0].shape == (4,) and outputs[0].dtype == jnp.float32
    assert outputs[2].shape == () and outputs[2].dtype == jnp.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs[:3]))
    again = oswm.condition(cartpole, max_steps=5, model=model)[0]
    assert env == again and hash(env) == hash(again)


def test_the_default_model_follows_cartpole(cartpole):
    """Eight steps of the real task, from the same state, under the same actions."""
    actions = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    real, _, _ = roll(*CARTPOLE, actions, 3)
    obs, _ = CARTPOLE[0].reset_env(jax.random.key(3), CARTPOLE[1])
    model = oswm.condition(cartpole, initial_obs=obs[None], model=FAST, sample=False)
    found, reward, terminated = roll(*model, actions)
    np.testing.assert_allclose(found, real, atol=2e-3)
    np.testing.assert_allclose(reward, 1.0, atol=0.01)
    assert not terminated.any()


def test_params_swap_contexts_without_compiling(cartpole, pair):
    env, params = pair
    other = oswm.condition(
        envs.collect(CARTPOLE, 300, key=1), max_steps=100, model=oswm.Ridge()
    )
    assert other[0] == env and other[1].num_initial_obs != params.num_initial_obs
    count = 0

    @jax.jit
    def reset(params):
        nonlocal count
        count += 1
        _, state = env.reset(jax.random.key(0), params)
        return env.step(jax.random.key(0), state, jnp.int32(0), params)[0]

    a, b = reset(params), reset(other[1])
    assert count == 1 and (a != b).any()


def test_contexts_batch(cartpole, pair):
    env, params = pair
    stacked = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 3), params)

    def step(params, action):
        _, state = env.reset(jax.random.key(0), params)
        return env.step(jax.random.key(0), state, action, params)[0]

    each = jax.jit(jax.vmap(step))(stacked, np.array([0, 1, 0]))
    np.testing.assert_allclose(each[0], each[2])
    np.testing.assert_allclose(each[1], step(params, jnp.int32(1)), atol=1e-6)


def test_state_does_not_hold_the_context(pair):
    env, params = pair
    _, state = env.reset(jax.random.key(0), params)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 4 + 2


def test_time_limit_truncates(pair):
    env, params = pair
    params = params.replace(max_steps_in_episode=3)
    _, state = env.reset(jax.random.key(0), params)
    flags = []
    for action in (0, 1, 0):
        _, state, _, terminated, truncated, _ = env.step(
            jax.random.key(0), state, jnp.int32(action), params
        )
        flags.append((bool(terminated), bool(truncated)))
    assert flags == [(False, False), (False, False), (False, True)]


def test_predictions_stay_in_the_context_range(cartpole, pair):
    env, params = pair
    actions = jnp.ones(60, jnp.int32)  # To the right for a second, past the end.
    obs = np.asarray(roll(env, params, actions)[0])
    support = jax.jit(Support.of)(oswm.Context.of(cartpole), 0.05)
    assert (obs >= support.low - 1e-6).all() and (obs <= support.high + 1e-6).all()
    assert np.ptp(obs[-5:], axis=0).max() < 1e-6  # At a corner of the range.


def test_leaving_the_range_costs_the_penalty(cartpole):
    env, params = oswm.condition(cartpole, model=oswm.Ridge(), uncertainty_penalty=2.0)
    _, reward, _ = roll(env, params, jnp.ones(60, jnp.int32))
    assert abs(reward[0] - 1.0) < 0.01 and abs(reward[-1] + 1.0) < 0.01


def test_support_knows_circles_and_whole_numbers():
    angle = np.random.default_rng(0).uniform(-3, 3, 200)
    cell = np.random.default_rng(1).integers(0, 5, 200)
    obs = np.column_stack([np.cos(angle), cell, np.sin(angle), angle]).astype("f4")
    rows = Transitions(
        obs, np.zeros(200, int), np.ones(200, "f4"), obs, *[np.zeros(200, bool)] * 2
    )
    support = jax.jit(Support.of)(oswm.Context.of(rows), 0.1)
    found = jax.jit(Support.project)(support, np.float32([0.9, 2.3, 1.2, 9.0]))
    np.testing.assert_allclose(found[:3], [0.6, 2.0, 0.8], atol=1e-3)
    assert found[3] < 4.0


def test_who_has_seen_a_part_of_a_circle_knows_where_the_rest_is():
    """A log of a pendulum that never was upright shows no wall on the way there."""
    angle = np.random.default_rng(0).uniform(1.5, 4.5, 200)
    obs = np.column_stack([np.cos(angle), np.sin(angle)]).astype("f4")
    rows = Transitions(
        obs, np.zeros(200, int), np.ones(200, "f4"), obs, *[np.zeros(200, bool)] * 2
    )
    support = jax.jit(Support.of)(oswm.Context.of(rows), 0.1)
    found = jax.jit(Support.project)(support, np.float32([0.8, -0.6]))
    np.testing.assert_allclose(found, [0.8, -0.6], atol=1e-3)
    two_kinds = np.eye(2, dtype="f4")[np.random.default_rng(1).integers(0, 2, 200)]
    rows = dataclasses.replace(rows, obs=two_kinds, next_obs=two_kinds)
    support = jax.jit(Support.of)(oswm.Context.of(rows), 0.1)
    np.testing.assert_array_equal(support.low, [0, 0])
    np.testing.assert_array_equal(support.high, [1, 1])


def test_users_functions_are_used(cartpole):
    env, params = oswm.condition(
        cartpole,
        model=oswm.Ridge(),
        terminated=lambda obs, action, next_obs: action == 1,
        reward=lambda obs, action, next_obs: 10.0 + action,
        uncertainty_penalty=0.0,
    )
    _, reward, terminated = roll(env, params, jnp.array([0, 1]))
    np.testing.assert_allclose(reward, [10.0, 11.0])
    assert terminated.tolist() == [False, True]


def test_sampled_steps_differ_by_the_predicted_deviation():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(300, 1)).astype(np.float32)
    rows = Transitions(
        obs=obs,
        action=rng.uniform(-1, 1, (300, 1)).astype(np.float32),
        reward=np.zeros(300, np.float32),
        next_obs=obs + 0.2 * rng.normal(size=(300, 1)).astype(np.float32),
        terminated=np.zeros(300, bool),
        truncated=np.zeros(300, bool),
    )
    env, params = oswm.condition(rows, model=oswm.Ridge(), sample=True)
    _, state = env.reset(jax.random.key(0), params)
    keys = jax.random.split(jax.random.key(1), 300)
    step = jax.jit(jax.vmap(env.step_env, (0, None, None, None)))
    found = step(keys, state, np.zeros(1, np.float32), params)[0]
    np.testing.assert_allclose(np.std(found), 0.2, rtol=0.15)


def test_initial_states(cartpole, pair):
    _, params = pair
    firsts = cartpole.obs[first_rows(cartpole)]
    np.testing.assert_array_equal(params.initial_obs[: params.num_initial_obs], firsts)
    assert np.abs(firsts).max() < 0.051  # CartPole's own.
    everywhere = oswm.condition(cartpole, model=oswm.Ridge(), initial_obs="context")
    assert everywhere[1].num_initial_obs == 300
    _, both = oswm.condition(cartpole, model=oswm.Ridge(), initial_obs="both")
    assert both.num_initial_obs == 300
    half = np.resize(firsts, (150, 4))
    np.testing.assert_array_equal(both.initial_obs[:150], half)
    np.testing.assert_array_equal(both.initial_obs[150:], cartpole.obs[1::2])


def test_rows_without_order_do_not_tell_where_episodes_start(cartpole):
    order = np.random.default_rng(0).permutation(300)
    shuffled = jax.tree.map(lambda x: x[order], cartpole)
    with pytest.raises(envs.OrderError):
        first_rows(shuffled)


def test_default_time_limit_is_that_of_truncated_episodes():
    rows = envs.collect(envs.make("SimpleEnv"), 100, key=0)
    assert oswm.condition(rows, model=oswm.Ridge())[1].max_steps_in_episode == 20


def test_gymnasium_accepts_it(pair):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*spec.*")
        check_env(envs.GymnasiumEnv(*pair), skip_render_check=True)


def test_continuous_actions_are_clipped_to_their_bounds():
    task = envs.make("Pendulum-v1")
    rows = envs.collect(task, 200, key=0)
    space = task[0].action_space(task[1])
    env, params = oswm.condition(rows, space, model=oswm.Ridge())
    assert env.action_space().low == -2.0 and env.action_space().high == 2.0
    a, b = (roll(env, params, jnp.full((1, 1), x))[0] for x in (2.0, 50.0))
    np.testing.assert_array_equal(a, b)
    check_env(envs.GymnasiumEnv(env, params), skip_render_check=True)


@pytest.mark.slow  # learning to a margin; the tests above hold the model
def test_agents_learn_cartpole_inside_alone(cartpole):
    """Measured with seeds 100 to 102: 200.0 each after 51,200 steps."""
    rows = envs.collect(CARTPOLE, 1000, key=5)
    pair = oswm.condition(rows, max_steps=200, model=oswm.Ridge())
    agent = jaxrl_se.PPO(num_envs=8, rollout_steps=128, num_minibatches=8)
    trained = jaxrl_se.train(agent, *pair, jax.random.key(0), 30 * 1024)
    episodes = jaxrl_se.evaluate(trained.policy, *CARTPOLE, jax.random.key(1), 20)
    assert episodes.returns.mean() > 150


@pytest.mark.slow  # README and a guide train rejax's agents in smaller ones
def test_rejax_trains_inside(pair):
    rejax = pytest.importorskip("rejax")
    env, params = pair
    algorithm = rejax.PPO.create(
        env=envs.LegacyEnv(env),
        env_params=params,
        total_timesteps=512,
        eval_freq=512,
        num_envs=4,
        num_steps=32,
        skip_initial_evaluation=True,
    ).replace(eval_callback=lambda *_: ())
    state, _ = jax.jit(algorithm.train)(jax.random.key(0))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.actor_ts.params))


@pytest.mark.slow
def test_a_population_of_contexts_evolves():
    rows = envs.collect(CARTPOLE, 100, key=0)
    pair = oswm.condition(rows, max_steps=200, model=oswm.Ridge())
    proxy = oswm.evolvable(rows, *pair, num_rows=4)
    env, params = proxy
    same = roll(env, params, jnp.array([0, 1]))[0]
    np.testing.assert_allclose(same, roll(*pair, jnp.array([0, 1]))[0], atol=1e-6)
    config = jaxrl_se.EvolutionConfig(
        agent=jaxrl_se.DDQN(hidden_sizes=(8,), batch_size=4),
        train_steps=50,
        std=3.0,
        population_size=4,
        num_seeds=1,
        max_generations=2,
        validation_agents=2,
    )
    result = jaxrl_se.evolve(CARTPOLE, config, 0, proxy=proxy)
    assert result.progress.generation == 2
    assert result.params.weights.shape == (4, 5) and result.params.weights.any()
    assert roll(env, result.params, jnp.array([0, 1]))[0].shape == (2, 4)


@pytest.mark.parametrize("num_rows", [0, 101])
def test_evolvable_rows_have_to_exist(num_rows):
    rows = envs.collect(CARTPOLE, 100, key=0)
    pair = oswm.condition(rows, model=oswm.Ridge())
    with pytest.raises(ValueError, match=r"num_rows must be in 1 \.\.\. 100"):
        oswm.evolvable(rows, *pair, num_rows=num_rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, "max_steps must be an integer"),
        ({"uncertainty_penalty": -1.0}, "uncertainty_penalty must be"),
        ({"margin": np.nan}, "margin must be"),
        ({"terminated": True}, "terminated must be a function"),
        ({"initial_obs": "first"}, "initial_obs must be an array"),
        ({"initial_obs": np.zeros((3, 2))}, r"initial_obs must .* \[K, 4\]"),
        ({"initial_obs": np.full((3, 4), np.inf)}, "initial_obs must be finite"),
        ({"action_space": gymnasium.spaces.Box(-1, 1, (1,))}, "action|dimension"),
    ],
)
def test_bad_arguments(cartpole, arguments, message):
    if "action_space" in arguments:  # Integers are numbers too: a box takes them.
        cartpole = dataclasses.replace(cartpole, action=np.zeros((300, 2)))
    with pytest.raises((TypeError, ValueError), match=message):
        oswm.condition(cartpole, model=oswm.Ridge(), **arguments)


def test_another_tasks_actions_are_refused(pair):
    env, params = pair
    _, state = env.reset(jax.random.key(0), params)
    with pytest.raises(ValueError, match="action must be one of the integers 0"):
        env.step(jax.random.key(0), state, jnp.zeros(1), params)
    rows = envs.collect(envs.make("Pendulum-v1"), 50, key=0)
    env, params = oswm.condition(rows, model=oswm.Ridge())
    _, state = env.reset(jax.random.key(0), params)
    with pytest.raises(ValueError, match="action must be a vector of size 1"):
        env.step(jax.random.key(0), state, jnp.zeros(2), params)
    with pytest.raises(ValueError, match="params must be of a context with 4 obs"):
        other = pair[0]
        _, state = other.reset(jax.random.key(0), pair[1])
        other.step_env(jax.random.key(0), state, jnp.int32(0), params)


def test_there_are_no_params_without_a_context(pair):
    with pytest.raises(ValueError, match="condition"):
        pair[0].reset(jax.random.key(0))


@pytest.mark.parametrize("arguments", [{"num_members": 1}, {"fraction": 0.0}])
def test_bad_sub_contexts(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        oswm.SubContexts(oswm.Ridge(), **arguments)


def test_sub_contexts_disagree_outside_of_the_context(cartpole):
    model = oswm.SubContexts(oswm.Ridge(quadratic=True), num_members=3)
    cache = jax.jit(model.fit)(oswm.Context.of(cartpole))
    predict = jax.jit(model.predict)
    near, far = (
        predict(cache, np.full(4, x, np.float32), np.float32([1, 0])).next_obs_std
        for x in (0.0, 30.0)
    )
    assert (far > 3 * near).all()


@pytest.mark.slow
def test_planning_balances_without_an_agent():
    rows = envs.collect(CARTPOLE, 500, key=0)
    env, params = oswm.condition(rows, max_steps=200, model=oswm.Ridge())
    planner = oswm.CrossEntropyPlanner(
        params=params, env=env, horizon=30, num_samples=64, num_elites=8
    )
    returns = jaxrl_se.evaluate(planner, *CARTPOLE, jax.random.key(0), 2).returns
    assert returns.mean() > 150


@pytest.mark.slow  # a guide plans too
def test_planning_steers_continuous_actions():
    task = envs.make("SimpleEnv")
    rows = envs.collect(task, 500, key=0)
    space = task[0].action_space(task[1])
    env, params = oswm.condition(rows, space, model=oswm.NearestNeighbours())
    planner = oswm.CrossEntropyPlanner(
        params=params, env=env, horizon=3, num_samples=64, num_elites=8
    )
    returns = jaxrl_se.evaluate(planner, *task, jax.random.key(0), 4).returns
    assert returns.mean() > -20  # Standing still pays about -50.


@pytest.mark.parametrize("crash", [None, -50.0, 0.0])
def test_what_ends_pay_is_paid_at_ends_alone(crash):
    """A model smooths a goal's reward over what is near; nobody may live on that.

    With a second kind of end each pays its own.
    """
    rng = np.random.default_rng(0)
    place = rng.uniform(0, 1, (300, 1)).astype(np.float32)
    push = rng.uniform(-0.1, 0.1, (300, 1)).astype(np.float32)
    arrived = place + push
    goal = arrived[:, 0] > 0.95
    fall = (arrived[:, 0] < 0.05) & (crash is not None)
    ends = goal | fall
    pay = np.where(goal, 100.0, crash or 0.0) * ends
    rows = envs.Transitions(
        obs=place,
        action=push,
        reward=(pay - np.abs(push[:, 0])).astype(np.float32),
        next_obs=arrived,
        terminated=ends,
        truncated=~ends,
    )
    env, params = oswm.condition(rows, model=FAST, initial_obs="context")
    np.testing.assert_allclose(params.support.reward_low, -0.1, atol=0.02)
    np.testing.assert_allclose(params.support.reward_high, 0.0, atol=0.02)
    step = jax.jit(jax.vmap(env.step_env, (None, 0, None, None)))
    state = env.reset(jax.random.key(0), params)[1]
    places = np.linspace(0.0, 1.0, 101, dtype=np.float32)[:, None]
    states = jax.vmap(lambda x: state.replace(obs=x))(places)
    push = np.full(1, 0.02, np.float32)
    found = step(jax.random.key(1), states, push, params)
    reward, terminated = np.asarray(found[2]), np.asarray(found[3])
    assert terminated[-3:].all() and not terminated[10:-10].any()
    np.testing.assert_allclose(reward[-3:], 100, atol=0.2)
    assert terminated[:2].all() == (crash is not None)
    np.testing.assert_allclose(reward[:2], crash or 0.0, atol=0.2)
    assert (np.abs(reward[~terminated]) <= 0.2).all()


def test_rewards_of_steps_that_happen_to_end_are_left_as_they_are():
    rng = np.random.default_rng(0)
    place = rng.uniform(0, 1, (300, 1)).astype(np.float32)
    ends = place[:, 0] > 0.9
    push = rng.uniform(-1, 1, (300, 1)).astype(np.float32)
    rows = envs.Transitions(place, push, place[:, 0] ** 2, place, ends, ~ends)
    context = oswm.Context.of(rows)
    assert take_apart(context) is context

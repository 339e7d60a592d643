"""Synthetic environments: golden vectors, gymnax's contract, what evolves."""

import copy
import dataclasses
import importlib

import gymnasium.utils.env_checker
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import sine_weights

import envs
import jaxrl_se
from jaxrl_se import (
    MultiStepEnv,
    OneStepEnv,
    Spaces,
    SyntheticConfig,
    train,
    with_gain,
    with_met_starts,
    with_starts,
)
from jaxrl_se.agents import BestResponse
from jaxrl_se.gain import lowest_gain
from jaxrl_se.obs_ranges import checked

CARTPOLE = envs.make("CartPole-v1")
DISCRETE = Spaces(obs_size=4, num_actions=2)
CONTINUOUS = Spaces(2, None, (-1.0,), (1.0,))
CONFIGS = {
    "one-step": SyntheticConfig("one-step", (5,)),
    "one-step, target's states": SyntheticConfig(
        "one-step", (5,), initial_states="target", reward_heads=False
    ),
    "multi-step": SyntheticConfig("multi-step", (5,), max_steps=3),
    "multi-step, learned termination": SyntheticConfig(
        "multi-step", (), initial_states="target", learn_termination=True, max_steps=3
    ),
}


@pytest.fixture(params=CONFIGS)
def synthetic(request):
    return CONFIGS[request.param].make(*CARTPOLE)


def rollout(env, key, params, num_steps=4):
    """Outputs of reset and of the steps that follow, with alternating actions."""
    key_reset, key_step = jax.random.split(key)
    obs, state = env.reset(key_reset, params)

    def one_step(carry, key):
        state, action = carry
        outputs = env.step(key, state, action, params)
        return (outputs[1], 1 - action), outputs

    keys = jax.random.split(key_step, num_steps)
    return obs, jax.lax.scan(one_step, (state, jnp.int32(0)), keys)[1]


def test_golden_cartpole():
    """The reference implementation of Ferreira et al., tuned CartPole, three steps."""
    target, target_params = envs.make("CartPole-v0")
    config = SyntheticConfig(
        variant="multi-step",
        hidden_sizes=(83,),
        activation="leaky_relu",
        initial_states="target",
        reward_heads=False,
        obs_bound=None,
        learn_termination=True,
        max_steps=200,
    )
    env = MultiStepEnv(config, DISCRETE, target)
    nets = env.networks()
    weights = {
        name: sine_weights(nets[name], first=4 * i)
        for i, name in enumerate(("next_obs", "reward", "terminated"))
    }
    params = env.default_params.replace(weights=weights, target_params=target_params)
    key = jax.random.key(0)
    _, state = env.reset(key, params)
    state = state.replace(obs=jnp.array([0.01, 0.02, 0.03, 0.04]))
    golden = [
        ((0.114141, 0.192472, 0.004943, -0.13263), 0.141807, 0.285776),
        ((0.135995, 0.195762, -0.015268, -0.146007), 0.123459, 0.292224),
        ((0.136389, 0.195972, -0.015558, -0.146362), 0.122441, 0.291466),
    ]
    done_net = jax.jit(nets["terminated"])
    for action, (expected_obs, expected_reward, expected_done) in zip(
        (0, 1, 1), golden, strict=True
    ):
        inputs = np.concatenate([np.eye(2, dtype=np.float32)[action], state.obs])
        raw = done_net(weights["terminated"], inputs)[0]
        obs, state, reward, terminated, _, _ = env.step(key, state, action, params)
        np.testing.assert_allclose(obs, expected_obs, atol=1e-6)
        np.testing.assert_allclose(reward, expected_reward, atol=1e-6)
        np.testing.assert_allclose(raw, expected_done, atol=1e-6)
        assert not terminated  # the reference ends an episode above 0.5


@pytest.mark.filterwarnings("ignore:.*Box observation space.*infinity")
def test_gymnasium_accepts_it(synthetic):
    env = envs.GymnasiumEnv(*synthetic)
    gymnasium.utils.env_checker.check_env(env, skip_render_check=True)


def test_spaces_and_dtypes(synthetic):
    env, params = synthetic
    assert Spaces.of(env, params) == DISCRETE == Spaces.of(*CARTPOLE)
    # A scan is only possible with a stable state; weak types would recompile it.
    first, (obs, state, reward, terminated, truncated, _) = jax.eval_shape(
        lambda key: rollout(env, key, params), jax.random.key(0)
    )
    for x in (first, obs, reward, *jax.tree.leaves(state)):
        assert not x.weak_type
    assert first.shape == env.observation_space(params).shape
    dtypes = [x.dtype for x in (first, obs, reward, state.time, terminated, truncated)]
    assert dtypes == [jnp.float32] * 3 + [jnp.int32, bool, bool]


@pytest.mark.parametrize(
    "name", ["one-step, target's states", "multi-step, learned termination"]
)
def test_vmap_over_weights_equals_a_loop(name):
    env, params = CONFIGS[name].make(*CARTPOLE)
    candidates = [
        params.replace(weights=jax.tree.map(lambda w, i=i: w * i, params.weights))
        for i in np.float32([0.5, 1, 2])
    ]
    population = jax.tree.map(lambda *leaves: np.stack(leaves), *candidates)
    batched = params.replace(weights=population.weights)

    def play(params):
        return rollout(env, jax.random.key(2), params)

    alone = jax.jit(play)
    together = jax.jit(jax.vmap(play, (env.population_axes(params),)))(batched)
    for i, candidate in enumerate(candidates):
        pairs = zip(*map(jax.tree.leaves, (together, alone(candidate))), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-6)


def test_jit_equals_no_jit():
    env, params = CONFIGS["multi-step, learned termination"].make(*CARTPOLE)
    _, state = env.reset(jax.random.key(0), params)
    arguments = (jax.random.key(1), state, jnp.int32(1), params)
    compiled = env.step(*arguments)
    with jax.disable_jit():
        plain = env.step(*arguments)
    for a, b in zip(jax.tree.leaves(compiled), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_weights_are_the_only_population_axis(synthetic):
    env, params = synthetic
    axes = env.population_axes(params)
    assert set(jax.tree.leaves(axes.weights)) == {0}
    assert jax.tree.structure(axes.weights) == jax.tree.structure(params.weights)
    assert jax.tree.leaves(axes.replace(weights=None)) == []


def test_one_step_terminates_and_is_not_truncated():
    env, params = CONFIGS["one-step"].make(*CARTPOLE)
    obs, state = env.reset(jax.random.key(0), params)
    next_obs, state, _, terminated, truncated, info = env.step(
        jax.random.key(1), state, jnp.int32(0), params
    )
    assert terminated and not truncated
    np.testing.assert_array_equal(info["final_observation"], obs)
    assert not np.array_equal(next_obs, obs) and state.time == 0  # a new episode


def test_multi_step_is_truncated_at_its_limit_and_not_terminated():
    env, params = CONFIGS["multi-step"].make(*CARTPOLE)
    for limit, expected in (
        (3, [False, False, True, False]),
        (2, [False, True, False, True]),  # the limit is a param: nothing recompiles
    ):
        _, (_, _, _, terminated, truncated, _) = jax.jit(rollout, static_argnums=0)(
            env, jax.random.key(0), params.replace(max_steps_in_episode=limit)
        )
        assert not terminated.any() and truncated.tolist() == expected


def test_learned_termination_ends_above_one_half():
    env, params = CONFIGS["multi-step, learned termination"].make(*CARTPOLE)
    _, state = env.reset(jax.random.key(0), params)
    for bias, expected in ((0.49, False), (0.51, True)):
        head = {"kernel": np.zeros((1, 6), np.float32), "bias": np.float32([bias])}
        weights = {**params.weights, "terminated": (head,)}
        terminated = env.step(
            jax.random.key(0), state, jnp.int32(0), params.replace(weights=weights)
        )[3]
        assert bool(terminated) is expected


def test_observations_stay_within_the_bound():
    env, params = CONFIGS["multi-step"].make(*CARTPOLE)
    weights = jax.tree.map(lambda w: 1e6 * np.asarray(w), params.weights)
    _, (obs, *_, info) = jax.jit(rollout, static_argnums=0)(
        env, jax.random.key(0), params.replace(weights=weights)
    )
    assert np.isfinite(obs).all()
    # The range of CartPole's position and angle, and as it is what has no range.
    half = np.float32([4.8, 1, 0.41887903, 1])
    largest = np.abs(info["final_observation"]).max(axis=0)
    np.testing.assert_allclose(largest, env.config.obs_bound * half, rtol=1e-6)


def test_initial_states_come_from_where_the_config_says():
    key = jax.random.key(7)
    env, params = CONFIGS["one-step, target's states"].make(*CARTPOLE)
    assert "initial_state" not in params.weights
    np.testing.assert_array_equal(env.reset(key, params)[0], CARTPOLE[0].reset(key)[0])

    env, params = CONFIGS["one-step"].make(*CARTPOLE)
    before = env.reset(key, params)[0]
    shifted = jax.tree.map(lambda w: np.asarray(w) + 1, params.weights["initial_state"])
    weights = {**params.weights, "initial_state": shifted}
    assert not np.allclose(env.reset(key, params.replace(weights=weights))[0], before)
    another = env.reset(jax.random.key(8), params)[0]
    assert not np.allclose(another, before)  # a distribution, not a point


@pytest.mark.parametrize(
    ("spaces", "actions"), [(DISCRETE, (0, 1)), (CONTINUOUS, ([-0.5], [0.5]))]
)
@pytest.mark.parametrize("heads", [True, False])
def test_reward_depends_on_the_action(spaces, actions, heads):
    env = SyntheticConfig(hidden_sizes=(5,), reward_heads=heads).build(spaces)
    params = env.default_params
    assert Spaces.of(env, params) == spaces
    _, state = env.reset(jax.random.key(0), params)
    rewards = [
        float(env.step(jax.random.key(0), state, jnp.asarray(a), params)[2])
        for a in actions
    ]
    assert rewards[0] != rewards[1]


@pytest.mark.parametrize("variant", ["one-step", "multi-step"])
def test_networks_see_the_tasks_range_as_one(variant):
    """With ranges an environment is the plain one, in other units."""
    spaces = Spaces(2, 3)
    low, high = np.float32([-1.2, -0.07]), np.float32([0.6, 0.07])
    config = SyntheticConfig(variant, (5,))
    task = envs.make("MountainCar-v0")
    env, params = config.make(*task)
    np.testing.assert_allclose(params.obs_range, np.stack([low, high], 1))
    plain = dataclasses.replace(config, obs_range=None).build(spaces)
    assert plain == env
    key = jax.random.key(0)
    obs, outputs = rollout(env, key, params)
    unit_obs, unit_outputs = rollout(plain, key, params.replace(obs_range=None))

    def to_unit(obs):
        return (2 * obs - low - high) / (high - low)

    np.testing.assert_allclose(to_unit(obs), unit_obs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs[2], unit_outputs[2], rtol=1e-4, atol=1e-5)
    final, unit_final = (x[-1]["final_observation"] for x in (outputs, unit_outputs))
    np.testing.assert_allclose(to_unit(final), unit_final, rtol=1e-4, atol=1e-5)


def test_quadratic_heads_are_highest_at_the_heads():
    """For continuous actions: concave, and highest at the clipped network output."""
    spaces = Spaces(2, None, (-2.0, 0.0), (2.0, 1.0))
    env = SyntheticConfig(hidden_sizes=()).build(spaces)
    params = env.default_params
    obs = np.float32([0.3, -0.7])
    state = env.reset(jax.random.key(0), params)[1].replace(obs=obs)
    heads = env.networks()["reward"](params.weights["reward"], obs)
    unit = np.linspace(-1, 1, 201, dtype=np.float32)
    grid = np.stack(np.meshgrid(unit, unit, indexing="ij"), -1).reshape(-1, 2)
    actions = np.float32([0, 0.5]) + grid * np.float32([2, 0.5])
    step = jax.vmap(lambda a: env.step_env(jax.random.key(0), state, a, params)[2])
    rewards = np.asarray(jax.jit(step)(actions))
    best = grid[np.argmax(rewards)]
    np.testing.assert_allclose(best, np.clip(heads, -1, 1), atol=0.01)
    np.testing.assert_allclose(
        rewards, grid @ heads - 0.5 * (grid**2).sum(1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("variant", ["one-step", "multi-step"])
@pytest.mark.parametrize("spaces", [DISCRETE, CONTINUOUS])
def test_an_advantage_is_zero_for_the_best_action_and_differs_as_before(
    spaces, variant
):
    config = SyntheticConfig(variant, (5,), reward_bound=3.0, obs_range=None)
    env = config.build(spaces)
    better = dataclasses.replace(config, advantage=True).build(spaces)
    params = env.default_params
    # Heads within the actions' bounds and beyond them.
    params = params.replace(weights=jax.tree.map(lambda w: 4 * w, params.weights))
    actions = jnp.arange(2) if spaces is DISCRETE else jnp.linspace(-1, 1, 401)[:, None]

    def rewards(env, obs):
        state = env.reset(jax.random.key(0), params)[1].replace(obs=obs)

        def step(action):
            return env.step_env(jax.random.key(0), state, action, params)[2]

        return jax.vmap(step)(actions)

    points = jax.random.normal(jax.random.key(1), (32, spaces.obs_size))
    plain = jax.vmap(lambda obs: rewards(env, obs))(points)
    best = jax.vmap(lambda obs: rewards(better, obs))(points)
    np.testing.assert_allclose(best.max(1), 0.0, atol=1e-5)
    np.testing.assert_allclose(best - best[:, :1], plain - plain[:, :1], atol=1e-4)
    assert not np.allclose(plain.max(1), 0.0, atol=0.1)
    with pytest.raises(ValueError, match="reward_heads must be True with advantage"):
        dataclasses.replace(config, reward_heads=False, advantage=True)


@pytest.mark.parametrize("hidden_sizes", [(), (5,)])
def test_starts_move_and_rewards_stay(hidden_sizes):
    config = SyntheticConfig(hidden_sizes=hidden_sizes, obs_range=((-1.0, 3.0),) * 4)
    env, params = config.make(*CARTPOLE)
    ranges = ((-0.5, 0.25), (0.0, 1.0), (-4.0, 4.0), (2.0, 2.5))
    moved, there = with_starts(env, params, ranges, advantage=False)
    obs = jax.vmap(lambda key: moved.reset(key, there)[0])(
        jax.random.split(jax.random.key(0), 2000)
    )
    low, high = np.asarray(ranges).T
    np.testing.assert_allclose((obs.mean(0) - low) / (high - low), 0.5, atol=0.05)
    np.testing.assert_allclose(2 * obs.std(0) / (high - low), 1.0, atol=0.1)

    def rewards(env, params):
        state = env.reset(jax.random.key(0), params)[1]

        def reward(obs):
            at = state.replace(obs=obs)
            key = jax.random.key(0)
            return jnp.stack([env.step_env(key, at, a, params)[2] for a in (0, 1)])

        return jax.vmap(reward)(obs)

    before = rewards(env, params)
    np.testing.assert_allclose(rewards(moved, there), before, rtol=1e-4, atol=1e-4)
    after = rewards(*with_starts(env, params, ranges))
    np.testing.assert_allclose(
        after, before - before.max(1, keepdims=True), rtol=1e-4, atol=1e-4
    )
    for wrong in ("abcd", ((-1, 1),)):
        with pytest.raises(ValueError, match="obs_range must have 4 pairs"):
            checked(wrong, 4)
    for wrong in ((1, -1), (1, 1), (np.nan, 1), (-np.inf, 1)):
        with pytest.raises(ValueError, match="a low below its high"):
            checked((wrong,) * 4, 4)
    with pytest.raises(ValueError, match="obs_range must have 4 pairs"):
        with_starts(env, params, ranges[:2])
    with pytest.raises(ValueError, match="env must be a OneStepEnv"):
        with_starts(*CONFIGS["multi-step"].make(*CARTPOLE), ranges)


def test_a_share_of_episodes_starts_where_the_task_was_met(tmp_path):
    config = SyntheticConfig(hidden_sizes=(), initial_states="normal")
    env, params = config.make(*CARTPOLE)
    met = np.float32([[10, 20, 30, 40], [50, 60, 70, 80]])
    moved, there = with_met_starts(env, params, met, share=0.25)
    keys = jax.random.split(jax.random.key(0), 4000)
    obs = np.asarray(jax.vmap(lambda key: moved.reset(key, there)[0])(keys))
    counts = [(obs == row).all(1).mean() for row in met]
    np.testing.assert_allclose(counts, 0.125, atol=0.02)
    others = obs[(obs[:, None] != met).all((1, 2))]
    np.testing.assert_allclose(others.mean(0), 0.0, atol=0.2)
    path = jaxrl_se.save(tmp_path / "met.npz", moved, there)
    again, read = jaxrl_se.load(path)
    assert again == moved and read.starts.share == 0.25
    np.testing.assert_array_equal(read.starts.obs, met)
    with pytest.raises(ValueError, match="no place for starts that were met"):
        jaxrl_se.to_line(moved, there)
    for bad, share, said in (
        (met[:, :3], 0.5, r"obs must be observations \[M, 4\]"),
        (met * np.nan, 0.5, "obs must be finite"),
        (met, 1.5, "share must be"),
    ):
        with pytest.raises(ValueError, match=said):
            with_met_starts(env, params, bad, share=share)


def test_a_lower_gain_asks_for_smaller_actions():
    config = SyntheticConfig(hidden_sizes=(5,), reward_bound=2.0, advantage=True)
    env, params = config.make(*envs.make("Pendulum-v1"))
    same, there = with_gain(env, params, 0.25)
    assert same == env

    def best(params, obs):
        """The action of the highest reward, by looking at many."""
        actions = jnp.linspace(-2.0, 2.0, 401)[:, None]
        state = env.reset(jax.random.key(0), params)[1].replace(obs=obs)
        key = jax.random.key(0)
        rewards = jax.vmap(lambda a: env.step_env(key, state, a, params)[2])(actions)
        np.testing.assert_allclose(rewards.max(), 0.0, atol=1e-4)
        return float(actions[jnp.argmax(rewards), 0])

    for obs in jax.random.normal(jax.random.key(1), (4, 3)):
        # Bounded outputs are 2 tanh(x / 2), in units of half the action's range.
        unbounded = 2 * np.arctanh(np.clip(best(params, obs) / 2 / 2, -0.999, 0.999))
        expected = 2 * 2 * np.tanh(0.25 * unbounded / 2)
        if abs(best(params, obs)) < 1.99:
            np.testing.assert_allclose(best(there, obs), expected, atol=0.02)
    with pytest.raises(ValueError, match="env must have continuous actions"):
        with_gain(*SyntheticConfig().make(*CARTPOLE), 0.5)
    with pytest.raises(ValueError, match="gain must be"):
        with_gain(env, params, 0.0)


def test_the_lowest_gain_is_that_which_does_as_well():
    """A mass that is pushed to the origin: a controller far stiffer than it has to be,
    and one that is weak already.
    """
    task = importlib.import_module("examples.tasks.double_integrator").make()
    config = SyntheticConfig(hidden_sizes=(), initial_states="normal")
    env, params = config.make(*task)
    kernel = {"kernel": jnp.float32([[-4.0, -8.0]]), "bias": jnp.zeros(1)}
    params = params.replace(weights={"reward": (kernel,)})
    policy = train(BestResponse(()), env, params, 0, 1).policy
    gain, steps = lowest_gain(policy, task, jax.random.key(0), -400.0)
    assert gain < 1 and steps > 0
    # Where whatever is less is worse, all of it is needed.
    weak = dataclasses.replace(
        policy, weights=jax.tree.map(lambda x: 0.02 * x, policy.weights)
    )
    assert lowest_gain(weak, task, jax.random.key(0), -400.0)[0] == 1.0
    lost = dataclasses.replace(
        policy, weights=jax.tree.map(lambda x: jnp.nan * x, policy.weights)
    )
    assert lowest_gain(lost, task, jax.random.key(0), -400.0)[0] == 1.0


def test_equality_is_by_configuration():
    for config in CONFIGS.values():
        env, twin = (config.make(*CARTPOLE)[0] for _ in range(2))
        assert twin is not env and twin == env and hash(twin) == hash(env)
        assert copy.deepcopy(env) == env
    environments = [c.make(*CARTPOLE)[0] for c in CONFIGS.values()]
    multi_step = CONFIGS["multi-step"]
    changes = ({"obs_bound": None}, {"max_steps": 4}, {"activation": "gelu"})
    others = [dataclasses.replace(multi_step, **change) for change in changes]
    others += [SyntheticConfig(hidden_sizes=(5,), reward_heads=False)]
    environments += [config.build(DISCRETE) for config in others]
    environments += [SyntheticConfig(hidden_sizes=(5,)).build(CONTINUOUS)]
    assert len(set(environments)) == len(environments)
    # Ranges of observations are params, for which nothing is compiled anew.
    elsewhere = dataclasses.replace(multi_step, obs_range=((-2.0, 2.0),) * 4)
    env, params = elsewhere.make(*CARTPOLE)
    assert env == multi_step.make(*CARTPOLE)[0]
    np.testing.assert_array_equal(params.obs_range, [[-2, 2]] * 4)
    with pytest.raises(ValueError, match=r"config\.variant must be 'one-step'"):
        OneStepEnv(multi_step, DISCRETE)
    with pytest.raises(ValueError, match="target must be given where"):
        OneStepEnv(CONFIGS["one-step, target's states"], DISCRETE)


def test_bad_configurations_are_named():
    for field, value in (
        ("variant", "two-step"),
        ("initial_states", "lerned"),
        ("max_steps", 0),
        ("hidden_sizes", (0,)),
        ("activation", "rleu"),
        ("obs_range", ((-1.0, 1.0),)),
    ):
        with pytest.raises(ValueError, match=field):
            SyntheticConfig(**{field: value}).make(*CARTPOLE)

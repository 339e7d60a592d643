"""Conditioning on what people bring: the right environment, or a word about it."""

import dataclasses
import warnings

import gymnasium
import gymnax
import jax
import numpy as np
import pytest

import envs
import jaxrl_se
import oswm
from oswm.inputs import say_numbered

NUM_ROWS, LIMIT = 400, 40


def log(seed=0, offset=0.0, dtype=np.float32, num_rows=NUM_ROWS):
    """A column that turns, one that follows the action, one that does neither."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(num_rows):
        if row % LIMIT == 0:
            state = np.array([rng.uniform(-3, 3), rng.normal(), 0.0])
        action = rng.integers(2)
        after = state + np.array([0.1, 0.1 * (action - 0.5), 1.0])
        rows.append((state, action, after[1], after, False, row % LIMIT == LIMIT - 1))
        state = after
    obs, action, reward, next_obs, terminated, truncated = map(
        np.array, zip(*rows, strict=True)
    )
    return envs.Transitions(
        obs=(obs + np.array([0, 0, offset])).astype(dtype),
        action=action,
        reward=reward.astype(np.float32),
        next_obs=(next_obs + np.array([0, 0, offset])).astype(dtype),
        terminated=terminated,
        truncated=truncated,
    )


def changed(rows, **changes):
    return dataclasses.replace(rows, **changes)


def condition(rows, **arguments):
    return oswm.condition(rows, **{"model": oswm.Ridge(), **arguments})


def assert_equal(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_logs_in_any_layout_give_the_same_environment():
    expected = condition(log())[1]
    assert expected.max_steps_in_episode == LIMIT
    assert int(expected.num_initial_obs) == NUM_ROWS // LIMIT

    rows = dataclasses.asdict(log())
    episodes = {
        name: np.reshape(x, (NUM_ROWS // LIMIT, LIMIT, *np.shape(x)[1:]))
        for name, x in rows.items()
        if x is not None
    }
    steps_first = {name: np.swapaxes(x, 0, 1) for name, x in episodes.items()}
    mixed = {name: np.concatenate(x) for name, x in steps_first.items()}
    ids = np.tile(np.arange(NUM_ROWS // LIMIT), LIMIT)
    for layout in (
        steps_first,
        {**mixed, "episode": ids},
        {**mixed, "env_id": ids},
        {**mixed, "episode_id": ids.astype(str), "step": np.arange(NUM_ROWS)},
    ):
        assert_equal(condition(layout)[1], expected)
    with pytest.warns(UserWarning, match="10 environments in turn"):
        assert_equal(condition(envs.Transitions(**mixed))[1], expected)


def test_shuffled_rows_need_a_limit_and_starts():
    order = np.random.default_rng(1).permutation(NUM_ROWS)
    rows = envs.Transitions(
        **{
            name: np.asarray(x)[order]
            for name, x in dataclasses.asdict(log()).items()
            if x is not None
        }
    )
    with pytest.raises(ValueError, match="pass both max_steps and initial_obs"):
        condition(rows)
    starts = log().obs[::LIMIT]
    _, params = condition(rows, max_steps=LIMIT, initial_obs="context")
    assert int(params.num_initial_obs) == NUM_ROWS
    _, params = condition(rows, max_steps=LIMIT, initial_obs=starts)
    assert params.max_steps_in_episode == LIMIT


@pytest.mark.parametrize("error", [1e-6, "rounded", "last bit"])
def test_next_observations_that_are_a_little_off(error):
    rows = log()
    next_obs = {
        1e-6: rows.next_obs + np.float32(1e-6),
        "rounded": np.round(rows.next_obs, 6),
        "last bit": np.nextafter(rows.next_obs, np.float32(99)),
    }[error]
    _, params = condition(changed(rows, next_obs=next_obs))
    assert params.max_steps_in_episode == LIMIT
    assert int(params.num_initial_obs) == NUM_ROWS // LIMIT


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_time_stamps_are_refused_by_column_with_a_remedy(dtype):
    rows = log(offset=1.7e9, dtype=np.float64)
    if dtype == np.int64:
        rows = changed(
            rows,
            obs=np.round(rows.obs).astype(dtype),
            next_obs=np.round(rows.next_obs).astype(dtype),
        )
    with pytest.raises(ValueError, match=r"^obs: .* of column 2 .*subtract a constant"):
        condition(rows)
    near = log(dtype=np.float64)
    assert condition(near)[1].max_steps_in_episode == LIMIT


@pytest.mark.parametrize("value", [1e20, -1e30, 3.4e38, 1e10])
@pytest.mark.parametrize("field", ["obs", "next_obs", "reward"])
def test_placeholders_are_named_by_field_row_and_value(field, value):
    array = np.array(getattr(log(), field))
    array.reshape(NUM_ROWS, -1)[123, 0] = value
    pattern = rf"^{field} must be .* got {value:g} in row 123".replace("+", r"\+")
    with pytest.raises(ValueError, match=pattern):
        condition(changed(log(), **{field: array}))


ACTIONS = {
    "column of integers": lambda a: a[:, None],
    "bools": lambda a: a.astype(bool),
    "unsigned": lambda a: a.astype(np.uint8),
    "a list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_that_are_plainly_discrete(name):
    expected = oswm.Context.of(log())
    assert_equal(
        oswm.Context.of(changed(log(), action=ACTIONS[name](log().action))), expected
    )


def test_whole_floats_ask_for_the_action_space():
    action = log().action.astype(np.float32)
    for given in (action, action[:, None]):
        rows = changed(log(), action=given)
        with pytest.raises(ValueError, match=r"action: .* give the action_space"):
            oswm.Context.of(rows)
        discrete = oswm.Context.of(rows, gymnasium.spaces.Discrete(2))
        assert_equal(discrete, oswm.Context.of(log()))
        box = oswm.Context.of(rows, gymnasium.spaces.Box(0, 1, (1,)))
        assert box.num_actions is None and box.action.shape == (NUM_ROWS, 1)


def test_one_hot_actions_have_a_hint():
    rows = changed(log(), action=np.eye(2, dtype=np.float32)[log().action])
    with pytest.raises(ValueError, match=r"are one-hot: action.argmax\(axis=1\)"):
        oswm.Context.of(rows)


def test_states_by_number_are_told_how_they_are_taken():
    with pytest.warns(UserWarning, match=r"obs: integers from 0 to 15.*eye\(16\)"):
        say_numbered(np.arange(16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for obs in (np.arange(16.0), np.arange(16).reshape(8, 2), np.arange(2) * 10**6):
            say_numbered(obs)


def test_several_discrete_actions_are_refused_by_name_with_a_remedy():
    rows = changed(log(), action=np.stack([log().action, 1 - log().action], axis=1))
    with pytest.raises(ValueError, match=r"action: .*MultiDiscrete.*ravel_multi_index"):
        oswm.Context.of(rows)
    with pytest.raises(ValueError, match=r"action_space: MultiDiscrete"):
        oswm.Context.of(rows, gymnasium.spaces.MultiDiscrete([2, 2]))


def test_many_actions_ask_for_rows_before_they_ask_for_memory():
    action = log().action.copy()
    action[0] = 2**40
    with pytest.raises(ValueError, match="discrete actions are numbered from 0"):
        oswm.Context.of(changed(log(), action=action))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 500.0, 1e6])
def test_the_circle_is_found_beside_columns_of_any_scale(scale):
    from oswm.support import Support

    angle = log().obs[:, 0]
    obs = np.stack([np.cos(angle), np.sin(angle), scale * log().obs[:, 1]], axis=1)
    obs = np.concatenate([obs, np.full((NUM_ROWS, 1), scale)], axis=1)
    context = oswm.Context.of(changed(log(), obs=obs, next_obs=obs))
    support = jax.jit(Support.of)(context, 0.05)
    np.testing.assert_array_equal(support.partner, [1, 0, 2, 3])
    np.testing.assert_allclose(support.radius, [1, 1, 0, 0], rtol=1e-5)
    projected = jax.jit(Support.project)(support, np.float32([2, 0, 0, scale]))
    np.testing.assert_allclose(projected[:2], [1, 0], atol=1e-5)


def test_swapped_observations_are_reported():
    rows = changed(log(), obs=log().next_obs, next_obs=log().obs)
    with (
        pytest.warns(UserWarning, match="swapped"),
        pytest.raises(ValueError, match="swapped"),
    ):
        condition(rows)


def test_collected_rows_keep_their_episodes():
    """Two places of one program may differ in the last bit; flags decide."""
    rows = envs.collect(envs.make("MountainCar-v0"), 450, key=0)
    rows = changed(rows, next_obs=np.nextafter(rows.next_obs, np.float32(9)))
    _, params = condition(rows, initial_obs="starts")
    assert params.max_steps_in_episode == 200
    assert int(params.num_initial_obs) == 3


def test_mappings_of_observations_come_back_in_the_environment_that_is_made():
    space = gymnasium.spaces.Dict(
        {
            "gear": gymnasium.spaces.Discrete(2),
            "place": gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32),
        }
    )
    rows = log()
    gear = {"obs": np.roll(rows.action, 1), "next_obs": rows.action}
    nested = {name: {"gear": gear[name], "place": getattr(rows, name)} for name in gear}
    given = {**dataclasses.asdict(rows), **nested}
    flat = envs.read_transitions(
        {name: x for name, x in given.items() if x is not None},
        observation_space=space,
    )
    pair = condition(flat, action_space=gymnasium.spaces.Discrete(2))
    env = envs.GymnasiumEnv(*pair, observation_space=space)
    assert env.reset(seed=0)[0] in space
    for action in (1, 0, 1):
        obs, *_ = env.step(action)
        assert obs in space and obs["gear"] == action


GUESSED = {
    r"the log never takes 1, so that": {"action": log().action * 2},
    r"never takes another action than 0": {"action": log().action * 0},
    r"obs: 1 of \d+ rows of column 1 have -9999, first row 7": {
        "obs": np.where(
            np.arange(NUM_ROWS)[:, None] * 3 + np.arange(log().obs.shape[1]) == 22,
            -9999.0,
            log().obs,
        )
    },
    r"obs: the numbers of column 0 are about 17\d* in float32.* time stamps": {
        "obs": np.column_stack(
            [1.7e9 + np.arange(NUM_ROWS), *log().obs[:, 1:].T]
        ).astype(np.float32)
    },
}


@pytest.mark.parametrize("message", GUESSED)
def test_what_is_guessed_is_said(message):
    with pytest.warns(UserWarning, match=message):
        oswm.Context.of(changed(log(), **GUESSED[message]))


def test_continuous_actions_and_their_bounds():
    push = np.linspace(-1, 1, NUM_ROWS, dtype=np.float32)[:, None]
    box = gymnasium.spaces.Box(-0.5, 0.5, (1,))
    message = (
        r"rows are outside the bounds of action_.* -1 to 1 in the log, and -0.5 to"
    )
    with pytest.warns(UserWarning, match=message):
        oswm.Context.of(changed(log(), action=push), box)
    constant = changed(log(), action=push * 0 + 0.5)
    with pytest.raises(ValueError, match=r"column 0 is 0.5 in all .* give the act"):
        oswm.Context.of(constant)
    with pytest.raises(ValueError, match="numbers those that occur"):
        oswm.Context.of(changed(log(), action=np.arange(NUM_ROWS) % 3 - 1))


def torque(*scales):
    """A log whose actions are within -3 and 6 times each scale."""
    rng = np.random.default_rng(0)
    return changed(log(), action=rng.uniform(-3, 6, (NUM_ROWS, len(scales))) * scales)


WIDE = {
    "one": (torque(1), gymnasium.spaces.Box(-3000, 6000, (1,))),
    "gymnax": (torque(1), gymnax.environments.spaces.Box(-3000, 6000, (1,))),
    "one of two": (
        torque(1e3, 1),
        gymnasium.spaces.Box(np.float32([-3000, -3000]), np.float32([6000, 6000])),
    ),
}


@pytest.mark.parametrize("name", WIDE)
def test_agents_that_may_act_far_outside_of_the_log_are_told(name):
    rows, space = WIDE[name]
    column = rows.action.shape[1] - 1
    message = (
        rf"^action_space: in dimension {column} agents may act from -3000 to 6000, but "
        r"the log's actions are all within -2\.\d+ and 5\.\d+: beyond .* units differ"
    )
    with pytest.warns(UserWarning, match=message):
        env, _ = condition(rows, action_space=space)
    assert env.action_low[column] == -3000


@pytest.mark.parametrize("function", [jaxrl_se.solve, jaxrl_se.evolve_from_log])
def test_solving_and_evolving_tell_it_before_they_fit(function, monkeypatch):
    def fit(*_):
        raise RuntimeError("about to fit")

    monkeypatch.setattr("oswm.conditioning.fit", fit)
    rows, space = WIDE["one"]
    with (
        pytest.warns(UserWarning, match="agents may act from -3000 to 6000"),
        pytest.raises(RuntimeError, match="about to fit"),
    ):
        function(rows, action_space=space, progress=False)


QUIET = {
    "most of the space": gymnasium.spaces.Box(-3, 6, (1,)),
    "a fourth of it": gymnasium.spaces.Box(-18, 18, (1,)),
    "no bounds": gymnasium.spaces.Box(-np.inf, np.inf, (1,)),
    "none": None,
}


@pytest.mark.parametrize("name", QUIET)
def test_a_space_that_the_log_uses_is_not_remarked_on(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        condition(torque(1), action_space=QUIET[name])

"""Where episodes begin and end, whatever a logger did to the rows."""

import dataclasses
import warnings

import numpy as np
import pytest

import envs

LIMIT, NUM_EPISODES = 60, 16
NUM_ROWS = LIMIT * NUM_EPISODES + 20


def log(seed=0, num_rows=NUM_ROWS, terminates=False):
    """A noisy oscillator with a time limit, from a new place after each episode."""
    rng = np.random.default_rng(seed)
    rows = []
    state, time = rng.normal(size=3), 0
    for _ in range(num_rows):
        action = rng.integers(3)
        change = [state[1], -state[0] + action - 1, 0.2 * rng.normal()]
        after, time = state + 0.05 * np.array(change), time + 1
        terminated = bool(terminates and rng.uniform() < 0.02)
        truncated = time == LIMIT
        rows.append((state, action, -(state[0] ** 2), after, terminated, truncated))
        state = after
        if terminated or truncated:
            state, time = rng.normal(size=3), 0
    obs, action, reward, next_obs, terminated, truncated = map(
        np.array, zip(*rows, strict=True)
    )
    return envs.Transitions(
        obs=obs.astype(np.float32),
        action=action,
        reward=reward.astype(np.float32),
        next_obs=next_obs.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
    )


def taken(rows, index):
    fields = dataclasses.asdict(rows)
    kept = {k: None if v is None else np.asarray(v)[index] for k, v in fields.items()}
    return envs.Transitions(**kept)


def changed(rows, **changes):
    return dataclasses.replace(rows, **changes)


def off_by(rows, size):
    noise = np.random.default_rng(1).uniform(-size, size, rows.obs.shape)
    return changed(rows, next_obs=(rows.next_obs + noise).astype(np.float32))


def rounded(rows, decimals):
    return changed(rows, next_obs=np.round(rows.next_obs, decimals))


def in_float64(rows):
    return changed(rows, next_obs=rows.next_obs.astype(np.float64))


def recomputed(rows):
    """Every next observation differs from the next row's in its last bit."""
    return changed(rows, next_obs=np.nextafter(rows.next_obs, np.float32(9)))


HARMLESS = {
    "as it is": lambda rows: rows,
    "recomputed": recomputed,
    "rounded to 6": lambda rows: rounded(rows, 6),
    "rounded to 3": lambda rows: rounded(rows, 3),
    "rounded to 2, coarser than steps": lambda rows: rounded(rows, 2),
    "off by 1e-6": lambda rows: off_by(rows, 1e-6),
    "off by 1e-4": lambda rows: off_by(rows, 1e-4),
    "another precision": in_float64,
    "in other units": lambda rows: changed(
        rows, obs=rows.obs * 1e6, next_obs=rows.next_obs * 1e6
    ),
}


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize("name", HARMLESS)
def test_episodes_are_joined_within_the_precision_of_the_data(name, flagged):
    rows = HARMLESS[name](log())
    if not flagged:
        rows = changed(rows, truncated=np.zeros(NUM_ROWS, bool))
    episodes = envs.episodes_of(rows)
    np.testing.assert_array_equal(episodes.starts, np.arange(0, NUM_ROWS, LIMIT))
    assert episodes.time_limit == LIMIT
    assert episodes.truncated.sum() == (NUM_EPISODES if flagged else 0)


def test_flags_decide_where_observations_are_noisy():
    """Nothing joins the rows, and yet they are in order."""
    rows = off_by(log(terminates=True), 0.3)
    ended = rows.terminated | rows.truncated
    starts = np.flatnonzero(np.insert(ended[:-1], 0, True))
    np.testing.assert_array_equal(envs.episodes_of(rows).starts, starts)


def parallel(num_envs, seed=0, **options):
    return [log(seed + i, 200, **options) for i in range(num_envs)]


def joined(logs):
    return envs.Transitions(
        **{
            name: np.concatenate([getattr(rows, name) for rows in logs])
            for name in envs.transitions.FIELDS
        }
    )


def interleaved(logs):
    return envs.Transitions(
        **{
            name: np.concatenate(np.stack([getattr(x, name) for x in logs], axis=1))
            for name in envs.transitions.FIELDS
        }
    )


def assert_same_rows(actual, expected):
    for name in envs.transitions.FIELDS:
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))


@pytest.mark.parametrize("terminates", [True, False])
@pytest.mark.parametrize("num_envs", [2, 4, 7])
def test_interleaved_rows_of_parallel_environments(num_envs, terminates):
    logs = parallel(num_envs, terminates=terminates)
    expected = envs.episodes_of(joined(logs))
    assert expected.time_limit == LIMIT and len(expected.starts) >= 4 * num_envs
    mixed = interleaved(logs)

    ids = np.tile(np.arange(num_envs), 200)
    said = changed(mixed, episode=ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = envs.episodes_of(said)
    assert_same_rows(said.validate(), joined(logs))
    np.testing.assert_array_equal(found.starts, expected.starts)
    np.testing.assert_array_equal(found.truncated, expected.truncated)

    with pytest.warns(UserWarning, match=f"taken for {num_envs} environments in turn"):
        guessed = envs.episodes_of(mixed)
    np.testing.assert_array_equal(guessed.starts, expected.starts)
    assert guessed.time_limit == LIMIT
    assert_same_rows(guessed.rows, joined(logs))

    stacked = envs.Transitions(
        **{
            name: np.stack([getattr(x, name) for x in logs], axis=1)
            for name in envs.transitions.FIELDS
        }
    )
    np.testing.assert_array_equal(envs.episodes_of(stacked).starts, expected.starts)


@pytest.mark.parametrize("flagged", [True, False])
def test_shuffled_rows_ask_for_what_only_order_tells(flagged):
    rows = log(terminates=True)
    if not flagged:
        none = np.zeros(NUM_ROWS, bool)
        rows = changed(rows, terminated=none, truncated=none)
    rows = taken(rows, np.random.default_rng(2).permutation(NUM_ROWS))
    with pytest.raises(envs.OrderError, match="pass both max_steps and initial_obs"):
        envs.episodes_of(rows)
    found = envs.known_episodes(rows)
    assert len(found.starts) == NUM_ROWS
    assert not found.is_complete.any() and found.time_limit is None


def test_returns_of_complete_episodes():
    rows = log()
    found = envs.episodes_of(rows)
    last = found.starts + found.lengths
    wanted = [rows.reward[a:b].sum() for a, b in zip(found.starts, last, strict=True)]
    np.testing.assert_allclose(found.returns, wanted, rtol=1e-6)
    ended = found.terminated | found.truncated
    assert (found.is_complete == ended).all() and ended[:-1].all()
    none = np.zeros(NUM_ROWS, bool)
    unmarked = envs.episodes_of(changed(rows, terminated=none, truncated=none))
    assert (unmarked.is_complete == (unmarked.lengths == found.time_limit)).all()


def test_rows_drawn_from_a_log_have_no_order_either():
    rows = log(num_rows=5000, terminates=True)
    rows = taken(rows, np.random.default_rng(2).choice(5000, 300, replace=False))
    with pytest.warns(UserWarning, match="Each row is taken for an episode of its own"):
        episodes = envs.episodes_of(rows)
    assert len(episodes.starts) == 300 and episodes.time_limit is None


@pytest.mark.parametrize("how", ["swapped", "backwards"])
def test_observations_that_are_swapped(how):
    rows = log()
    if how == "swapped":
        rows = changed(rows, obs=rows.next_obs, next_obs=rows.obs)
    else:
        rows = taken(rows, slice(None, None, -1))
    with pytest.raises(envs.OrderError, match="obs and next_obs are swapped"):
        envs.episodes_of(rows)
    with pytest.warns(UserWarning, match="obs and next_obs are swapped"):
        assert envs.in_order(rows) is rows
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert envs.in_order(log()).action.tolist() == log().action.tolist()


@pytest.mark.parametrize("terminates", [True, False])
def test_observations_that_are_a_row_late(terminates):
    """They are those of two environments in turn, but for lying halfway."""
    rows = log(terminates=terminates)
    late = changed(rows, obs=np.roll(rows.obs, 1, axis=0))
    for function in (envs.episodes_of, envs.in_order):
        with pytest.raises(ValueError, match=r"obs is one row late; give obs\[1:\]"):
            function(late)
    mended = taken(late, slice(None, -1))
    mended = changed(mended, obs=np.asarray(late.obs)[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(envs.episodes_of(mended).starts) > 10


def test_one_step_episodes_need_no_order():
    rows = taken(log(), np.random.default_rng(2).permutation(NUM_ROWS))
    rows = changed(rows, terminated=np.ones(NUM_ROWS, bool))
    episodes = envs.episodes_of(rows)
    assert len(episodes.starts) == NUM_ROWS and set(episodes.lengths) == {1}


def same_step(rows):
    """What a logger writes that takes the observation after a reset."""
    next_obs = rows.next_obs.copy()
    ended = np.flatnonzero((rows.terminated | rows.truncated)[:-1])
    next_obs[ended] = rows.obs[ended + 1]
    return changed(rows, next_obs=next_obs)


def test_resets_in_the_rows_are_reported():
    rows = log(terminates=True)
    with pytest.warns(UserWarning, match="next_obs of a last row is already the"):
        envs.episodes_of(same_step(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs.episodes_of(rows)


def test_constants_and_a_single_row():
    rows = taken(log(), slice(0, 1))
    assert envs.episodes_of(rows).starts.tolist() == [0]
    still = np.ones((NUM_ROWS, 3), np.float32)
    assert envs.episodes_of(changed(log(), obs=still, next_obs=still)).time_limit == 60

"""Logs without `next_obs` of which rows are missing, as a column of steps tells."""

import warnings

import numpy as np
import pytest
from test_episodes import LIMIT, NUM_ROWS, log

import envs
from envs.log_steps import places

ROWS = np.arange(NUM_ROWS)
STEP, EPISODE = ROWS % LIMIT, ROWS // LIMIT
FULL = log()
CLOCK = np.datetime64("2026-01-01T09:00") + ROWS.astype("timedelta64[m]")


def table(kept=ROWS, **columns):
    given = {"obs": FULL.obs, "action": FULL.action, "reward": FULL.reward}
    given |= {"terminated": FULL.terminated, "truncated": FULL.truncated}
    given |= columns
    return {k: np.asarray(v)[kept] for k, v in given.items() if v is not None}


def assert_true_rows(found, kept):
    """All rows that are there together with the next one, and no others."""
    whole = np.isin(ROWS, kept) & np.isin(ROWS + 1, kept) & (STEP < LIMIT - 1)
    np.testing.assert_array_equal(found.obs, FULL.obs[whole])
    np.testing.assert_array_equal(found.next_obs, FULL.next_obs[whole])
    np.testing.assert_array_equal(found.action, FULL.action[whole])


def cut(kept):
    """Rows behind which others are missing, in the same episode."""
    return (np.diff(kept) > 1) & (np.diff(EPISODE[kept]) == 0)


SOME = ROWS[ROWS % 41 != 40]  # the last row of no episode
COUNTERS = {
    "step": {"step": STEP},
    "unsigned": {"step": STEP.astype(np.uint8)},
    "text": {"step": STEP.astype(str)},
    "from 1, a column": {"timestep": 1.0 + STEP[:, None]},
    "of the whole log": {"step": ROWS, "truncated": STEP == LIMIT - 1},
    "frames": {"step": 4 * STEP},
    "seconds": {"timestamp": 1.7e9 + 0.05 * ROWS},
    "a clock that is off": {"timestamp": 1.7e9 + 0.05 * ROWS + 0.001 * (ROWS % 3)},
    "times": {"timestamp": CLOCK},
    "times as text": {"timestamp": CLOCK.astype(str)},
}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("name", COUNTERS)
def test_no_row_is_joined_to_the_one_after_the_next(name, named):
    columns = COUNTERS[name] | ({"episode": EPISODE} if named else {})
    whole, given = table(**columns), table(SOME, **columns)
    number = cut(SOME).sum()
    assert number == 23
    with pytest.warns(UserWarning, match="next_obs is missing, and step") as told:
        found = envs.read_transitions(given)
    (text,) = [str(w.message) for w in told if "and step" in str(w.message)]
    assert f"behind {number} of {len(SOME)} rows, first row 39 (" in text
    assert "as if others were missing" in text and "give all rows, or max_st" in text
    left_out = [str(w.message) for w in told if "the last rows of" in str(w.message)]
    assert len(left_out) == 1 and "the last rows of 17 episodes" in left_out[0]
    assert_true_rows(found, SOME)
    with pytest.warns(UserWarning) as told:
        assert_true_rows(envs.read_transitions(whole), ROWS)
    assert not [w for w in told if "and step" in str(w.message)]


def test_the_numbers_that_do_not_follow_are_shown():
    with pytest.warns(
        UserWarning, match=r"go on by 1 behind .* row 39 \(39, then 41\)"
    ):
        envs.read_transitions(table(SOME, step=STEP))


def test_a_file_with_a_counter_of_another_name(tmp_path):
    names = ["x", "v", "y", "action", "reward", "terminated", "truncated", "k"]
    given = table(SOME, k=STEP)
    columns = [*given["obs"].T, *(given[name] for name in names[3:])]
    rows = [",".join(repr(float(x)) for x in row) for row in zip(*columns, strict=True)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join([",".join(names), *rows]))
    with pytest.warns(UserWarning, match="behind 23 of"):
        found = envs.read_transitions(path, columns={"obs": names[:3], "step": "k"})
    assert len(found) == (np.diff(SOME) == 1).sum() - NUM_ROWS // LIMIT


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_many_rows_may_be_missing_from_a_counter(share):
    ended = STEP == LIMIT - 1
    kept = ROWS[(np.random.default_rng(0).uniform(size=NUM_ROWS) < share) | ended]
    with pytest.warns(
        UserWarning, match=f"behind {cut(kept).sum()} of {len(kept)} row"
    ):
        found = envs.read_transitions(table(kept, step=STEP, episode=EPISODE))
    assert_true_rows(found, kept)


def test_steps_in_turn_of_environments_that_start_anew():
    """Two environments in turn, whose counters start anew with each episode."""
    half = NUM_ROWS // (2 * LIMIT) * LIMIT
    order = np.stack([np.arange(half), half + np.arange(half)], axis=1).reshape(-1)
    kept = order[order % 41 != 40]
    columns = {"step": STEP, "env_id": half <= ROWS}
    with pytest.warns(
        UserWarning, match="next_obs is missing, and step does not go on"
    ):
        found = envs.read_transitions(table(kept, **columns))
    whole = np.isin(ROWS, kept) & np.isin(ROWS + 1, kept) & (STEP < LIMIT - 1)
    np.testing.assert_array_equal(found.next_obs, FULL.next_obs[whole])


def test_a_counter_that_starts_anew_ends_an_episode():
    none = np.zeros(NUM_ROWS, bool)
    message = (
        rf"step starts anew behind 16 of .* row {LIMIT - 1} \({LIMIT - 1}, then 0\)"
    )
    with pytest.warns(UserWarning, match=message):
        found = envs.read_transitions(table(step=STEP, truncated=none))
    assert_true_rows(found, ROWS)
    late = np.roll(STEP == LIMIT - 1, 1)
    with pytest.warns(UserWarning, match="where observations have just jumped"):
        envs.read_transitions(table(step=STEP, terminated=late, truncated=none))


def test_with_next_obs_a_gap_is_harmless():
    given = table(SOME, next_obs=FULL.next_obs, step=STEP, episode=EPISODE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = envs.read_transitions(given)
    np.testing.assert_array_equal(found.next_obs, FULL.next_obs[SOME])


def test_one_observation_more_than_actions():
    """The last row is kept, and the one behind which some are missing is not."""
    rows = np.delete(np.arange(LIMIT), 30)
    given = {k: v for k, v in table(rows, step=STEP).items() if k != "truncated"}
    given["obs"] = np.concatenate([given["obs"], FULL.next_obs[LIMIT - 1 : LIMIT]])
    with pytest.warns(UserWarning, match=r"behind 1 of 59 rows, first row 29 \(29, th"):
        found = envs.read_transitions(given)
    np.testing.assert_array_equal(found.next_obs, FULL.next_obs[np.delete(rows, 29)])


IRREGULAR = {
    "events": np.cumsum(np.random.default_rng(0).exponential(size=NUM_ROWS)) + 1.7e9,
    "whole seconds": 10**9
    + np.cumsum(np.random.default_rng(0).integers(1, 9, NUM_ROWS)),
    "a coarse clock": 1.7e9 + ROWS // 2,
    "a rounded clock": np.round(1.7e9 + ROWS + 0.1 * np.sin(ROWS) + 0.45),
    "every other frame": 2 * ROWS,
    "names": np.char.add("row_", np.char.zfill(ROWS.astype(str), 5)),
}


@pytest.mark.parametrize("name", IRREGULAR)
def test_steps_that_are_not_regular_leave_out_nothing(name):
    given = table(step=IRREGULAR[name], episode=EPISODE)
    with pytest.warns(UserWarning) as told:
        assert_true_rows(envs.read_transitions(given), ROWS)
    assert not [w for w in told if "and step" in str(w.message)]


def test_places_of_text():
    np.testing.assert_array_equal(places(["9", "10"]), [9, 10])
    assert np.diff(places(["2026-01-01 10:00:00", "2026-01-01 10:00:30"])) == 30
    np.testing.assert_array_equal(places(["b", "a", "b"]), [1, 0, 1])

"""Rows inside of episodes that do not lead to the next one: what is said of them."""

import warnings

import numpy as np
import pytest
from test_episodes import (
    LIMIT,
    NUM_EPISODES,
    NUM_ROWS,
    changed,
    interleaved,
    joined,
    log,
    parallel,
    taken,
)

import envs
import oswm

EPISODE = np.arange(NUM_ROWS) // LIMIT
ROWS = np.arange(NUM_ROWS)
NINTH = (ROWS % 9 == 4) & (ROWS % LIMIT > 0)  # no first row of an episode
MARKED = NUM_EPISODES + 1
FOUND = MARKED + int(NINTH.sum())
NONE = np.zeros(NUM_ROWS, bool)
SAID = f"{NINTH.sum()} of .* rows inside of episodes do not have the obs of the next"


def in_centimetres(rows, name, where):
    values = np.array(getattr(rows, name))
    values[where, :2] *= 100
    return changed(rows, **{name: values})


MARKS = {
    "flags": {},
    "flags, episode": {"episode": EPISODE},
    "episode alone": {"episode": EPISODE, "truncated": NONE},
    "no marks": {"truncated": NONE},
}


@pytest.mark.parametrize("name", ["obs", "next_obs"])
@pytest.mark.parametrize("marks", MARKS)
def test_rows_in_another_unit_are_said_to_end_episodes(marks, name):
    """Where `next_obs` is off, the row itself ends; where `obs`, the one before."""
    where = NINTH if name == "obs" else np.append(NINTH[1:], False)
    rows = changed(in_centimetres(log(), name, where), **MARKS[marks])
    with pytest.warns(UserWarning, match=SAID) as said:
        found = envs.episodes_of(rows)
    assert len(found.starts) == FOUND
    (text,) = [str(w.message) for w in said if "inside of episodes" in str(w.message)]
    assert (
        f"of {NUM_ROWS - MARKED if marks != 'no marks' else NUM_ROWS - 1} rows" in text
    )
    assert "first row 3, " in text
    assert f"there are {FOUND} instead of {MARKED}," in text
    assert f"the longest has {found.lengths.max()} steps" in text
    assert "leave next_obs out" in text and "give max_steps" in text


def test_it_is_said_from_condition_too():
    rows = changed(in_centimetres(log(), "obs", NINTH), episode=EPISODE)
    with pytest.warns(UserWarning, match=SAID):
        oswm.condition(rows, model=oswm.Ridge())


@pytest.mark.parametrize("terminates", [True, False])
def test_a_few_rows_that_are_missing_from_marked_episodes_are_said(terminates):
    rows = log(terminates=terminates)
    ended = rows.terminated | rows.truncated
    number = np.append(0, np.cumsum(ended)[:-1])
    kept = np.flatnonzero(~np.isin(ROWS, [130, 131, 132, 500, 501, 641]) | ended)
    holes = (np.diff(kept) > 1) & (np.diff(number[kept]) == 0)
    thin = taken(changed(rows, episode=number), kept)
    message = f"^transitions: {holes.sum()} of .* first row 129, though the log marks"
    with pytest.warns(UserWarning, match=message):
        found = envs.episodes_of(thin)
    assert holes.sum() > 1 and len(found.starts) == number.max() + 1 + holes.sum()


CLEAN = {
    "flags": lambda logs: joined(logs),
    "environments": lambda logs: changed(interleaved(logs), episode=ids(logs)),
    "environments one after another": lambda logs: changed(
        joined(logs), episode=np.repeat(np.arange(len(logs)), 200)
    ),
}


def ids(logs):
    return np.tile(np.arange(len(logs)), 200)


@pytest.mark.parametrize("terminates", [True, False])
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("name", CLEAN)
def test_ends_that_nothing_marks_are_found_without_a_word(name, marked, terminates):
    """Time limits of vectorised logs, and parts of logs put together."""
    logs = parallel(5, terminates=terminates)
    rows = CLEAN[name](logs)
    if not marked:
        rows = changed(rows, truncated=np.zeros(1000, bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = envs.episodes_of(rows)
    assert len(found.starts) == sum(len(envs.episodes_of(x).starts) for x in logs)
    assert found.time_limit == LIMIT


@pytest.mark.parametrize("task", ["CartPole-v1", "MountainCar-v0", "Pendulum-v1"])
def test_recordings_are_clean(task):
    logs = [envs.collect(task, 450, key=seed) for seed in range(3)]
    none = np.zeros(1350, bool)
    environments = np.repeat(np.arange(3), 450)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for changes in ({}, {"truncated": none}):
            for episode in (None, environments):
                rows = changed(joined(logs), episode=episode, **changes)
                found = envs.episodes_of(rows)
                known = sum(len(envs.episodes_of(x).starts) for x in logs)
                assert len(found.starts) == known

"""One log in many layouts: always the same rows, or an error that names the cause."""

import dataclasses
import warnings

import gymnasium
import numpy as np
import pytest
from test_episodes import LIMIT, changed, log, taken

import envs
from envs.precision import as_float32
from envs.transitions import FIELDS

ROWS = taken(log(terminates=True), slice(0, 300))
FOUND = envs.episodes_of(ROWS)
NUMBER = np.repeat(np.arange(len(FOUND.starts)), FOUND.lengths)
FULL = taken(log(), slice(0, 12 * LIMIT))  # twelve episodes of one length


def arrays(rows=ROWS):
    return {name: np.asarray(getattr(rows, name)) for name in FIELDS}


def by_episode(name=lambda number: number, fields=FIELDS):
    return {
        name(number): {f: arrays()[f][number == NUMBER] for f in fields}
        for number in range(len(FOUND.starts))
    }


def structured():
    parts = arrays()
    dtype = [(name, x.dtype, x.shape[1:]) for name, x in parts.items()]
    table = np.zeros(len(ROWS), dtype)
    for name, x in parts.items():
        table[name] = x
    return table


def torch_tensors():
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(x) for name, x in arrays().items()}
    return {**tensors, "obs": tensors["obs"].requires_grad_()}


def frame(obs="obs_{}", next_obs="next_obs_{}", reverse=False, **names):
    pandas = pytest.importorskip("pandas")
    places = range(2, -1, -1) if reverse else range(3)
    letters = "xyz"
    columns = {obs.format(letters[i]): ROWS.obs[:, i] for i in range(3)}
    columns |= {next_obs.format(letters[i]): ROWS.next_obs[:, i] for i in places}
    rest = ("action", "reward", "terminated", "truncated")
    columns |= {names.get(name, name): arrays()[name] for name in rest}
    return pandas.DataFrame(columns)


def cells():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({name: list(x) for name, x in arrays().items()})


LAYOUTS = {
    "rows": lambda: [
        {name: x[i] for name, x in arrays().items()} for i in range(len(ROWS))
    ],
    "episodes": lambda: list(by_episode().values()),
    "episodes by name": lambda: by_episode(lambda number: f"episode_{number}"),
    "episodes in a group": lambda: {"data": by_episode(lambda n: f"demo_{n}")},
    "Transitions": lambda: [
        taken(ROWS, number == NUMBER) for number in range(len(FOUND.starts))
    ],
    "structured": structured,
    "torch": torch_tensors,
    "other order of columns": lambda: frame(reverse=True),
    "new obs x": lambda: frame("obs {}", " New Obs {}", action="Act", reward="rew"),
    "obs[x]": lambda: frame("obs[{}]", "obs_next[{}]"),
    "obs_x_next": lambda: frame("obs_{}", "obs_{}_next"),
    "cells": cells,
    "columns [N, 1]": lambda: {
        name: x[:, None] if x.ndim == 1 else x for name, x in arrays().items()
    },
    "one environment": lambda: {name: x[:, None] for name, x in arrays().items()},
    "words": lambda: {
        **arrays(),
        "terminated": np.where(ROWS.terminated, "True", "False"),
        "truncated": np.where(ROWS.truncated, "yes", "no"),
    },
    "done and terminated": lambda: {
        **{name: x for name, x in arrays().items() if name != "truncated"},
        "done": ROWS.terminated | ROWS.truncated,
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_rows(layout):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = envs.read_transitions(LAYOUTS[layout]())
        found = envs.episodes_of(rows)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(rows, name), getattr(ROWS, name), name)
    np.testing.assert_array_equal(found.starts, FOUND.starts)
    assert found.time_limit == FOUND.time_limit == LIMIT


@pytest.mark.parametrize(
    ("comma", "point", "suffix"),
    [(";", ",", "csv"), (";", ".", "txt"), ("\t", ".", "tsv")],
)
def test_files_of_text(comma, point, suffix, tmp_path):
    path = tmp_path / f"log.{suffix}"
    frame().to_csv(path, sep=comma, decimal=point, index=False)
    rows = envs.read_transitions(path)
    np.testing.assert_allclose(rows.next_obs, ROWS.next_obs, rtol=1e-6)
    np.testing.assert_array_equal(rows.terminated, ROWS.terminated)


def test_groups_of_episodes_in_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "log.h5"
    with h5py.File(path, "w") as file:
        file["note"] = "text is left alone"
        for name, fields in by_episode(lambda number: f"data/demo_{number}").items():
            for field, x in fields.items():
                file[f"{name}/{field}"] = x
    np.testing.assert_array_equal(envs.read_transitions(path).obs, ROWS.obs)
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/obs")
    with pytest.raises(ValueError, match="elsewhere refers to another file"):
        envs.read_transitions(path)


def test_axes_of_parallel_environments():
    """[steps, environments, ...] as they are; the other way round with a warning."""
    grid = {n: x.reshape(12, LIMIT, *x.shape[1:]) for n, x in arrays(FULL).items()}
    for column in ("reward", "terminated", "truncated", "action"):
        grid[column] = grid[column][..., None]
    rows = envs.read_transitions({n: np.swapaxes(x, 0, 1) for n, x in grid.items()})
    np.testing.assert_array_equal(rows.obs, FULL.obs)
    with pytest.warns(UserWarning, match=r"taken for \[environments, steps"):
        rows = envs.read_transitions(grid)
    np.testing.assert_array_equal(rows.obs, FULL.obs)
    assert envs.episodes_of(rows).time_limit == LIMIT


def test_rows_that_were_left_out_end_no_episode():
    step = np.arange(len(FULL)) % LIMIT
    thinned = taken(FULL, step % 5 != 3)
    with pytest.warns(UserWarning, match="rows between them are taken to be missing"):
        found = envs.episodes_of(thinned)
    assert len(found.starts) == 12
    assert set(found.lengths) == {LIMIT * 4 // 5}


def test_a_limit_that_is_a_step_short_is_said():
    given = {name: x for name, x in arrays(FULL).items() if name != "next_obs"}
    with pytest.warns(UserWarning, match="one step shorter than they were"):
        rows = envs.read_transitions(given)
    assert envs.episodes_of(rows).time_limit == LIMIT - 1


BAD = {
    "lacks the field 'obs' .* it has a_1, b_2; else say": {"a_1": [1], "b_2": [2]},
    "reward: row 3 is masked": {
        **arrays(),
        "reward": np.ma.array(ROWS.reward, mask=np.arange(300) == 3),
    },
    r"truncated must be flags .* got maybe in row 7": {
        **arrays(),
        "truncated": np.where(np.arange(300) == 7, "maybe", "no"),
    },
    "obs must be numbers, got datetime64.* seconds since the first row": {
        **arrays(),
        "obs": np.zeros((300, 3), "datetime64[s]"),
    },
    r"action must be numbers, got 'left' in row 0; number its . words": {
        **arrays(),
        "action": np.full(300, "left"),
    },
    r"reward must be numbers, got NoneType \(None\) in row 5; leave": {
        **arrays(),
        "reward": [None if i == 5 else 1.0 for i in range(300)],
    },
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_read_is_named(message):
    with pytest.raises(ValueError, match=f"^{message}"):
        envs.read_transitions(BAD[message])


def test_columns_and_files_that_cannot_be_read(tmp_path):
    table = frame().drop(columns="next_obs_y")
    with pytest.raises(ValueError, match=r"same columns as obs, but only one .* has y"):
        envs.read_transitions(table)
    pandas = pytest.importorskip("pandas")
    twice = pandas.concat([frame(), frame()[["reward"]]], axis=1)
    with pytest.raises(ValueError, match="found several of reward"):
        envs.read_transitions(twice)
    for name, message in {
        "log.pkl": "nothing is unpickled",
        "log.parquet": "pandas.read_parquet",
        "log.jsonl": "json.loads",
        "log.csv": "not readable as text in UTF-8",
    }.items():
        path = tmp_path / name
        path.write_bytes(b"\xff\x00\x01")
        with pytest.raises(ValueError, match=f"{path}: .*{message}"):
            envs.read_transitions(path)
    with pytest.raises(ValueError, match="only one of row 0 and row 1 has reward"):
        first = {name: x[0] for name, x in arrays().items()}
        envs.read_transitions([first, {k: first[k] for k in first if k != "reward"}])


def test_rows_of_gymnasium_keep_their_dict_observations():
    """A list of rows, as a loop over `env.step` collects them, is flattened too."""
    space = gymnasium.spaces.Dict(
        {
            "gear": gymnasium.spaces.Discrete(3),
            "place": gymnasium.spaces.Box(-9, 9, (2,)),
        }
    )
    parts = {"gear": ROWS.action, "place": ROWS.obs[:, :2]}
    rows = [
        {
            **{name: x[i] for name, x in arrays().items()},
            "obs": {name: x[i] for name, x in parts.items()},
            "next_obs": {name: x[i] for name, x in parts.items()},
        }
        for i in range(20)
    ]
    found = envs.read_transitions(rows, observation_space=space)
    first = {name: x[0] for name, x in parts.items()}
    np.testing.assert_array_equal(found.obs[0], gymnasium.spaces.flatten(space, first))
    assert dataclasses.is_dataclass(found) and changed(found, reward=found.reward)


def in_turn(steps=75, number=4, length=25):
    """A thermostat in several environments, arrays [T, N] and the last observations."""
    rng = np.random.default_rng(0)
    obs, action = np.zeros((steps, number)), rng.uniform(-1, 1, (steps, number))
    ended = np.zeros((steps, number), bool)
    now = rng.uniform(0, 20, number)
    for t in range(steps):
        obs[t] = now
        ended[t] = t % length == length - 1
        now = rng.uniform(0, 20, number) if ended[t].all() else heated(now, action[t])
    found = {"obs": obs, "action": action, "reward": -obs, "truncated": ended}
    return found | {"terminated": np.zeros((steps, number))}, now


def heated(obs, action):
    return obs + 3 * action - 0.1 * (obs - 4)


def assert_true(rows, number):
    obs, action = (np.asarray(x).reshape(-1) for x in (rows.obs, rows.action))
    assert len(rows) == number
    np.testing.assert_allclose(
        np.asarray(rows.next_obs).reshape(-1), heated(obs, action), rtol=1e-6
    )


@pytest.mark.filterwarnings(
    "ignore:next_obs is missing",
    "ignore:transitions. arrays",
    "ignore:step. each value stands in 4 rows",
)
def test_without_next_obs_no_row_is_joined_to_another_environments():
    given, last = in_turn()
    wide = {name: array[..., None] for name, array in given.items()}
    flags = {name: given[name] for name in ("truncated", "terminated", "reward")}
    wide |= flags
    assert_true(envs.read_transitions(wide), 288)
    longer = np.concatenate([given["obs"], last[None]])[..., None]
    assert_true(envs.read_transitions({**wide, "obs": longer}), 288)
    swapped = {name: np.swapaxes(array, 0, 1) for name, array in wide.items()}
    assert_true(envs.read_transitions(swapped), 288)
    flat = {name: array.reshape(-1) for name, array in given.items()}
    steps = np.repeat(np.arange(75), 4)
    assert_true(envs.read_transitions({**flat, "step": steps}), 288)
    assert_true(envs.read_transitions({**flat, "worker": np.tile(range(4), 75)}), 288)
    shuffled = np.random.default_rng(1).permutation(300)
    flat |= {
        "env_idx": np.tile(range(4), 75),
        "timestamp": np.datetime64("2020-01-01") + steps.astype("timedelta64[m]"),
    }
    mixed = {name: array[shuffled] for name, array in flat.items()}
    assert_true(envs.read_transitions(mixed), 288)


@pytest.mark.filterwarnings("ignore:next_obs is missing")
def test_times_of_a_coarse_clock_are_no_environments_in_turn():
    given, _ = in_turn(steps=300, number=1)
    rows = {name: array.reshape(-1) for name, array in given.items()}
    rows |= {"timestamp": 1.7e9 + np.arange(300) // 2}
    assert_true(envs.read_transitions(rows), 288)


def test_rows_without_next_obs_that_do_not_follow_each_other_are_told():
    given, _ = in_turn()
    flat = {name: array.reshape(-1) for name, array in given.items()}
    with pytest.warns(UserWarning, match="give the columns step or env_id"):
        envs.read_transitions(flat)


def test_a_placeholder_is_told_at_any_share():
    numbers = np.random.default_rng(0).uniform(0, 20, 300)
    for share in (0.02, 0.2, 0.45):
        numbers[: int(300 * share)] = -9999
        with pytest.warns(UserWarning, match="-9999, first row 0, all others"):
            as_float32("obs", numbers)
        with pytest.warns(UserWarning, match="have -12345, all others 0"):
            as_float32("obs", np.where(numbers < 0, -12345, numbers))
        with pytest.warns(UserWarning, match="have -9999, first row 0"):
            as_float32("reward", np.where(numbers < 0, -9999.0, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_float32("obs", (np.arange(300) % 7 == 0) * 1.0)
        as_float32("reward", np.where(np.arange(300) % 9 == 0, 100.0, -0.1))
        as_float32("reward", np.where(np.arange(300) % 9 == 0, -1000.0, 1.0))
        as_float32("obs", np.where(np.arange(300) % 9 == 0, 999.0, 990.0))


def test_flat_steps_of_rlds_are_rows():
    """Three episodes of 2, 1 and 3 actions; the second ends in a terminal state."""
    lengths, is_terminal = [2, 1, 3], np.zeros(9, bool)
    is_terminal[4] = True
    last = np.cumsum(np.add(lengths, 1)) - 1
    is_last = np.isin(np.arange(9), last)
    steps = {
        "observation": np.arange(18.0).reshape(9, 2),
        "action": np.arange(9) % 2,
        "reward": np.arange(9.0),
        "is_first": np.roll(is_last, 1),
        "is_last": is_last,
        "is_terminal": is_terminal,
    }
    rows = envs.read_transitions(steps)
    np.testing.assert_array_equal(rows.reward, [0, 1, 3, 5, 6, 7])
    np.testing.assert_array_equal(rows.next_obs[:, 0], [2, 4, 8, 12, 14, 16])
    np.testing.assert_array_equal(rows.terminated, [0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(rows.truncated, [0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(rows.episode, [0, 0, 1, 2, 2, 2])
    with pytest.raises(ValueError, match="is_first must be true in the first row"):
        envs.read_transitions(steps | {"is_first": is_last})

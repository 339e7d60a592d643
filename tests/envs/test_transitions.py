"""The typed batch of transitions and its file."""

import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.transitions import FIELDS


def batch(num_rows=4, **changes):
    obs = np.arange(num_rows * 3, dtype=np.float32).reshape(num_rows, 3)
    fields = {
        "obs": obs,
        "action": np.arange(num_rows, dtype=np.int32),
        "reward": np.ones(num_rows, np.float32),
        "next_obs": obs + 1,
        "terminated": np.zeros(num_rows, bool),
        "truncated": np.zeros(num_rows, bool),
    }
    return envs.Transitions(**(fields | changes))


def assert_equal(actual, expected):
    for name in FIELDS:
        a, b = getattr(actual, name), getattr(expected, name)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype, name


@pytest.mark.parametrize(
    "transitions",
    [
        batch(),
        batch(action=np.zeros((4, 2), np.float32)),
        batch(
            obs=np.zeros((4, 8, 8, 3), np.uint8),
            next_obs=np.ones((4, 8, 8, 3), np.uint8),
        ),
        batch(obs=np.zeros(4, np.int32), next_obs=np.ones(4, np.int32)),
        jax.tree.map(jnp.asarray, batch()),
    ],
    ids=["discrete", "continuous", "images", "integers", "jax"],
)
def test_saving_and_loading_gives_the_same(transitions, tmp_path):
    assert transitions.validate() is transitions and len(transitions) == 4
    path = tmp_path / "folder" / "data"  # taken as it is, without a suffix
    transitions.save(path)
    assert_equal(envs.Transitions.load(path), transitions)
    assert [p.name for p in path.parent.iterdir()] == ["data"]
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {*FIELDS, "metadata"}


def test_it_is_a_pytree():
    doubled = jax.jit(lambda t: jax.tree.map(lambda x: x[:2], t))(batch())
    assert len(doubled) == 2 and doubled.validate().obs.shape == (2, 3)


LOGGERS = {
    "flags of uint8": {"terminated": np.zeros(4, np.uint8)},
    "flags of float": {"truncated": np.zeros(4)},
    "flags as a column": {"terminated": np.zeros((4, 1), bool)},
    "flags as a list": {"truncated": [False] * 4},
    "rewards of int": {"reward": np.ones(4, np.int64)},
    "rewards as a column": {"reward": np.ones((4, 1), np.float32)},
    "rewards as objects": {"reward": np.array([1, 1.0, True, 1], object)},
    "actions as a column": {"action": np.arange(4, dtype=np.int32)[:, None]},
    "observations as lists": {"obs": batch().obs.tolist()},
    "another precision": {"next_obs": batch().next_obs.astype(np.float64)},
    "bfloat16": {"reward": jnp.ones(4, jnp.bfloat16)},
}


@pytest.mark.parametrize("name", LOGGERS)
def test_what_loggers_write_is_read_where_nothing_is_lost(name):
    given = batch(**LOGGERS[name])
    rows = given.validate()
    assert rows is not given and rows.validate() is rows
    for field in FIELDS:
        actual, expected = getattr(rows, field), getattr(batch(), field)
        np.testing.assert_array_equal(actual, expected)
        assert actual.shape == expected.shape
        assert actual.dtype.kind == expected.dtype.kind, field
    assert rows.obs.dtype == rows.next_obs.dtype


def test_large_whole_rewards_keep_every_digit():
    reward = np.array([2**24 + 1, 0, 0, 0])
    np.testing.assert_array_equal(batch(reward=reward).validate().reward, reward)


def test_rows_of_one_episode_are_put_next_to_each_other():
    rows = batch(6, episode=[7, 3, 7, 3, 3, 7]).validate()
    np.testing.assert_array_equal(rows.episode, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(rows.action, [0, 2, 5, 1, 3, 4])
    named = batch(6, episode=np.array(["b", "a", "b", "a", "a", "b"])).validate()
    assert_equal(named, rows)
    in_order = batch(4, episode=np.array([5, 5, 2, 2]))
    assert in_order.validate() is in_order


def test_arrays_of_parallel_environments():
    """[steps, environments, ...] become one environment after another."""
    parallel = jax.tree.map(
        lambda x: np.stack([x, x + x.dtype.type(1)], axis=1), batch(3)
    )
    rows = parallel.validate()
    np.testing.assert_array_equal(rows.action, [0, 1, 2, 1, 2, 3])
    np.testing.assert_array_equal(rows.episode, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(rows.obs[:3], batch(3).obs)
    np.testing.assert_array_equal(rows.next_obs[3:], batch(3).next_obs + 1)


def test_episodes_are_saved(tmp_path):
    batch(episode=np.array([0, 0, 1, 1])).save(tmp_path / "data.npz")
    loaded = envs.Transitions.load(tmp_path / "data.npz")
    np.testing.assert_array_equal(loaded.episode, [0, 0, 1, 1])


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    batch().save(tmp_path / "data.npz")
    with pytest.raises(ValueError, match="more than the limit of 100"):
        envs.Transitions.load(tmp_path / "data.npz", max_bytes=100)


def with_nan(shape, row):
    array = np.zeros(shape, np.float32)
    array[row] = np.nan
    return array


BAD = {
    "obs must be at least one row": batch(0),
    r"reward must be of shape \(4,\) to go with obs .* got \(4, 2\)": batch(
        reward=np.ones((4, 2), np.float32)
    ),
    r"obs and next_obs must be of the same shape, .* and \(4, 2\)": batch(
        next_obs=np.zeros((4, 2), np.float32)
    ),
    "obs must have 4 rows, as action, .* have": batch(obs=np.zeros((3, 3), np.float32)),
    r"obs must have 4 rows, .*; pass its transpose, \[4, 3\]": batch(
        obs=np.zeros((3, 4), np.float32)
    ),
    r"action must be of shape \(4,\) .* got \(3,\)": batch(
        action=np.zeros(3, np.int32)
    ),
    "terminated must be flags .* got 0.5 in row 1": batch(
        terminated=np.array([0, 0.5, 1, 0], np.float32)
    ),
    "truncated must be flags .* got 2 in row 3": batch(
        truncated=np.array([0, 0, 0, 2])
    ),
    "terminated must be flags .* got a in row 0": batch(terminated=list("abcd")),
    r"reward must be numbers, got .a. in row 0": batch(reward=list("abcd")),
    "obs must be numbers, got NoneType": batch(obs=np.full((4, 3), None)),
    "obs: not readable as an array": batch(obs=[[1.0], [1.0, 2.0], [1.0], [1.0]]),
    "reward must be finite .* 1 of 4 rows, first in row 2": batch(
        reward=with_nan(4, 2)
    ),
    "next_obs must be finite .* first in row 1": batch(next_obs=with_nan((4, 3), 1)),
    "action must be finite": batch(action=np.full((4, 1), np.inf, np.float32)),
    "obs must be one array, got a mapping with a": batch(obs={"a": np.zeros(4)}),
    r"obs must be of shape \[2, 2, ...\] \(steps, env": batch(
        terminated=np.zeros((2, 2), bool), truncated=np.zeros((2, 2), bool)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_fields_are_named(message, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}"):
        BAD[message].validate()
    with pytest.raises(ValueError, match=f"^{message}"):
        BAD[message].save(tmp_path / "data.npz")
    assert not list(tmp_path.iterdir())


def test_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    batch(2).save(path)
    before = path.read_bytes()

    def interrupted(file, **_):
        file.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch(4).save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def file_of(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def fields(**changes):
    return {name: getattr(batch(), name) for name in FIELDS} | changes


def without(name):
    return {k: v for k, v in fields().items() if k != name}


def damaged():
    data = bytearray(file_of(**fields()))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        start = file.getinfo("reward.npy").header_offset
    data[start + 170] ^= 255
    return bytes(data)


def single_array():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def pickled():
    return file_of(**fields(action=np.array([{}, 1, 2, 3], dtype=object)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "not readable as transitions"),
        (lambda: b"some text", "not readable as transitions"),
        (lambda: file_of(**fields())[:-200], "not readable as transitions"),
        (single_array, "not readable as transitions"),
        (lambda: file_of(**without("next_obs")), "lacks the field 'next_obs'"),
        (pickled, "action.npy holds Python objects"),
        (damaged, "not readable as transitions"),
        (lambda: file_of(**fields(reward=np.ones(3))), "reward must be of shape"),
    ],
    ids=["empty", "text", "cut", "single", "missing", "pickle", "damaged", "shape"],
)
def test_bad_files_are_refused_by_path_and_field(content, message, tmp_path):
    path = tmp_path / "bad.npz"
    path.write_bytes(content())
    with pytest.raises(ValueError, match=f"bad.npz: {message}"):
        envs.Transitions.load(path)


def test_other_arrays_in_a_file_are_left_alone(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(file_of(**fields(comment=np.array("hello"))))
    assert_equal(envs.Transitions.load(path), batch())


def test_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        envs.Transitions.load(tmp_path / "none.npz")

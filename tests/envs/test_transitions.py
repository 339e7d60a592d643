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
        assert set(file.files) == set(FIELDS)


def test_it_is_a_pytree():
    doubled = jax.jit(lambda t: jax.tree.map(lambda x: x[:2], t))(batch())
    assert len(doubled) == 2 and doubled.validate().obs.shape == (2, 3)


def with_nan(shape, row):
    array = np.zeros(shape, np.float32)
    array[row] = np.nan
    return array


BAD = {
    "obs: expected at least one row": batch(0),
    r"reward: expected shape \(4,\) to go with obs .* got \(4, 1\)": batch(
        reward=np.ones((4, 1), np.float32)
    ),
    r"next_obs: expected shape \(4, 3\)": batch(next_obs=np.zeros((4, 2), np.float32)),
    r"action: expected shape \(4,\) .* got \(3,\)": batch(action=np.zeros(3, np.int32)),
    "terminated: expected dtype bool, got float32": batch(
        terminated=np.zeros(4, np.float32)
    ),
    "reward: expected dtype float, got int64": batch(reward=np.ones(4, np.int64)),
    "next_obs: expected the dtype of obs, float32, got float64": batch(
        next_obs=np.zeros((4, 3))
    ),
    "reward: expected finite .* 1 of 4 rows, first in row 2": batch(
        reward=with_nan(4, 2)
    ),
    "next_obs: expected finite .* first in row 1": batch(next_obs=with_nan((4, 3), 1)),
    "action: expected finite": batch(action=np.full((4, 1), np.inf, np.float32)),
    "truncated: expected a NumPy or JAX array, got list": batch(truncated=[False] * 4),
    "obs: expected a NumPy or JAX array, got dict": batch(obs={"a": np.zeros(4)}),
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
        (lambda: b"", "not a readable npz file"),
        (lambda: b"some text", "not a readable npz file"),
        (lambda: file_of(**fields())[:-200], "not a readable npz file"),
        (single_array, "expected an npz file, found a single array"),
        (lambda: file_of(**without("next_obs")), "lacks the field 'next_obs'"),
        (pickled, "action: not readable .*allow_pickle"),
        (damaged, "reward: not readable"),
        (lambda: file_of(**fields(reward=np.ones(3))), "reward: expected shape"),
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

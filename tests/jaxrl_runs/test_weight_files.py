"""Weight files: what is written comes back, what is damaged is refused by name."""

import io
import zipfile

import numpy as np
import pytest

from jaxrl_runs.weight_files import (
    WeightFileError,
    check_arrays,
    read_weights,
    write_weights,
)

ARRAYS = {"a/kernel": np.arange(6.0).reshape(2, 3), "b": np.float16(2.5)}


@pytest.fixture
def path(tmp_path):
    return write_weights(tmp_path / "new" / "w.npz", ARRAYS, {"format_version": 3})


def test_what_is_written_comes_back(path):
    metadata, arrays = read_weights(path, format_version=3)
    assert metadata == {"format_version": 3}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == np.asarray(array).dtype
    assert [p.name for p in path.parent.iterdir()] == ["w.npz"]


def test_writing_fails_as_a_whole(path, monkeypatch):
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="No space"):
        write_weights(path, {"a": np.ones(3)})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["w.npz"]


@pytest.mark.parametrize("name", ["metadata", "objects"])
def test_what_cannot_be_written_is_refused(tmp_path, name):
    array = np.array([object()]) if name == "objects" else np.ones(1)
    with pytest.raises(ValueError, match=name):
        write_weights(tmp_path / "w.npz", {name: array})


def test_another_version_is_named(path):
    with pytest.raises(WeightFileError, match="version 3, this version reads 4"):
        read_weights(path, format_version=4)


def test_every_truncation_and_every_flipped_bit_is_refused_or_harmless(path):
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightFileError, match=r"w\.npz"):
            read_weights(path)
    # A flipped bit may fall into what zip readers ignore, such as a date; then what is
    # read is what was written.
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(bytes(damaged))
        try:
            _, arrays = read_weights(path)
        except WeightFileError:
            continue
        for name in arrays.keys() & ARRAYS.keys():
            np.testing.assert_array_equal(arrays[name], ARRAYS[name])


def test_sizes_are_checked_before_memory_is_asked_for(path, tmp_path):
    with pytest.raises(WeightFileError, match="limit of 100"):
        read_weights(path, max_bytes=100)
    header = io.BytesIO()
    huge = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(header, huge)
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    with pytest.raises(WeightFileError, match="announces float32"):
        read_weights(bomb)


def test_pickles_are_never_opened(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(WeightFileError, match="holds Python objects"):
        read_weights(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "w.npz"
    path.write_text("not a zip file")
    with pytest.raises(WeightFileError, match="not readable as a policy"):
        read_weights(path, what="a policy")
    with pytest.raises(WeightFileError, match="found a folder"):
        read_weights(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "none.npz")


def test_names_shapes_and_values_are_compared(path):
    _, arrays = read_weights(path)
    expected = dict(ARRAYS)
    check_arrays(path, arrays, expected)
    for change, message in [
        ({"c": np.ones(1)}, "c is missing"),
        ({"b": np.ones(2)}, r"b must have shape \(2,\), got \(\)"),
    ]:
        with pytest.raises(WeightFileError, match=message):
            check_arrays(path, arrays, {**expected, **change})
    with pytest.raises(WeightFileError, match="b is unknown"):
        check_arrays(path, arrays, {"a/kernel": ARRAYS["a/kernel"]})
    with pytest.raises(WeightFileError, match="b contains NaN"):
        check_arrays(path, {**arrays, "b": np.array(np.nan)}, expected)

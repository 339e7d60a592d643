"""The folder of a run under every fault that we could think of."""

import errno
import json
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxrl_runs.run_folder import (
    RunFolder,
    RunFolderError,
    check_run_folder,
    holds_run,
    next_run_folder,
)

CONFIG = {"evolution": {"strategy": "snes", "std": 0.5}, "key": [0, 1]}


def make_state(step):
    return {
        "mean": jnp.array([0.1, -0.0, np.nan, np.inf, 1e-42], jnp.float32) + step,
        "step": jnp.int32(step),
        "moments": (jnp.arange(6.0).reshape(2, 3), jnp.array([1, 2**31], jnp.uint32)),
    }


def make_progress(step):
    return {"generation": step, "seconds": 0.1 + step, "rows": [{"x": float("nan")}]}


def assert_is_step(restored, step):
    """Every bit of the state and of the progress."""
    state, progress = restored
    assert json.dumps(progress) == json.dumps(make_progress(step))
    expected = make_state(step)
    assert state.keys() == expected.keys()
    for a, b in zip(
        (state["mean"], state["step"], *state["moments"]),
        (expected["mean"], expected["step"], *expected["moments"]),
        strict=True,
    ):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save_steps(path, *steps):
    with RunFolder(path, CONFIG) as folder:
        for step in steps:
            folder.save(step, make_state(step), make_progress(step))
    return path


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    return save_steps(tmp_path_factory.mktemp("runs") / "run", 5, 10)


@pytest.fixture
def copy(two_checkpoints, tmp_path):
    return Path(shutil.copytree(two_checkpoints, tmp_path / "copy"))


def resume(path):
    return RunFolder(path, CONFIG, resume=True)


def restore(path):
    with resume(path) as folder:
        return folder.restore(make_state(0))


def test_round_trip_keeps_every_bit_and_prints_nothing(tmp_path, capfd):
    save_steps(tmp_path / "run", 1, 2)
    assert_is_step(restore(tmp_path / "run"), 2)
    assert capfd.readouterr() == ("", "")


def test_numbers_of_numpy_are_kept_as_pythons(tmp_path):
    path, odd = tmp_path / "run", {"attempt": np.int64(2), "mean": np.float32(0.5)}
    with RunFolder(path, CONFIG) as folder:
        folder.save(1, make_state(1), {"rows": [odd | {"is": np.bool_(True)}]})
        with pytest.raises(TypeError, match="must be what JSON can hold, got set"):
            folder.save(2, make_state(1), {"rows": {1}})
    _, progress = restore(path)
    assert progress == {"rows": [{"attempt": 2, "mean": 0.5, "is": True}]}


def test_three_checkpoints_are_kept_and_none_is_written_twice(tmp_path):
    path = save_steps(tmp_path / "run", 1, 2, 3, 4)
    assert {p.name for p in (path / "checkpoints").iterdir()} == {"2", "3", "4"}
    with resume(path) as folder:
        folder.save(4, make_state(7), make_progress(7))
        assert_is_step(folder.restore(make_state(0)), 4)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    if content:
        content[len(content) // 2] ^= 4
    file.write_bytes(content)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, Path.unlink])
def test_any_damaged_file_is_survived(two_checkpoints, tmp_path, damage):
    """Whatever file is hit: the newest whole checkpoint, and a report by path."""
    newest = two_checkpoints / "checkpoints" / "10"
    files = [p.relative_to(newest) for p in newest.rglob("*") if p.is_file()]
    assert len(files) > 8
    num_skipped = 0
    for i, file in enumerate(files):
        path = Path(shutil.copytree(two_checkpoints, tmp_path / str(i)))
        damage(path / "checkpoints" / "10" / file)
        with warnings.catch_warnings(record=True) as caught, resume(path) as folder:
            warnings.simplefilter("always")
            restored = folder.restore(make_state(0))
            assert restored is not None, file
            is_skipped = restored[1]["generation"] == 5
            assert_is_step(restored, 5 if is_skipped else 10)
            messages = [str(w.message) for w in caught]
            assert len(messages) == is_skipped, (file, messages)
            if is_skipped:
                num_skipped += 1
                assert str(path / "checkpoints" / "10") in messages[0]
                assert "damaged checkpoint" in messages[0]
            # The run goes on and can save the same step again.
            folder.save(10, make_state(10), make_progress(10))
            assert_is_step(folder.restore(make_state(0)), 10)
    assert num_skipped >= 4  # the files that are read


@pytest.mark.parametrize("part", ["checksums", "progress"])
def test_checksums_are_verified(copy, part):
    """A file that reads well and says something else."""
    (file,) = (copy / "checkpoints" / "10" / "meta").glob("metadata")
    meta = json.loads(file.read_text())
    if part == "checksums":
        meta["checksums"]["['step']"] = "0" * 64
    else:
        meta["progress"]["generation"] = 11
    file.write_text(json.dumps(meta))
    with pytest.warns(UserWarning, match="checksum mismatch in") as caught:
        assert_is_step(restore(copy), 5)
    assert str(copy / "checkpoints" / "10") in str(caught[0].message)


def test_without_a_whole_checkpoint_the_run_starts_over_and_says_so(copy):
    for step in ("5", "10"):
        truncate(copy / "checkpoints" / step / "meta" / "metadata")
    with pytest.warns(UserWarning) as caught:
        assert restore(copy) is None
    messages = [str(w.message) for w in caught]
    assert len(messages) == 3 and "starting over" in messages[2]
    damaged = {p.name.split("-")[0] for p in (copy / "damaged").iterdir()}
    assert damaged == {"5", "10"}  # nothing is deleted


def test_resume_without_a_checkpoint_starts_over_and_says_so(tmp_path):
    RunFolder(tmp_path / "new", CONFIG).close()
    with pytest.warns(UserWarning, match="no checkpoint to resume from"):
        assert restore(tmp_path / "new") is None
    with RunFolder(tmp_path / "fresh", CONFIG) as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert folder.restore(make_state(0)) is None


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(RunFolderError, match="no such folder to resume"):
        resume(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    with pytest.raises(RunFolderError, match="holds no run to resume"):
        resume(tmp_path)
    assert not holds_run(tmp_path)
    RunFolder(tmp_path, CONFIG).close()
    assert holds_run(tmp_path)
    resume(tmp_path).close()


def test_other_things_among_the_checkpoints_do_no_harm(copy):
    (copy / "checkpoints" / "notes.txt").write_text("mine")
    (copy / "checkpoints" / "old").mkdir()
    (copy / "checkpoints" / "15.orbax-checkpoint-tmp").mkdir()  # a killed save
    with resume(copy) as folder:
        assert_is_step(folder.restore(make_state(0)), 10)
        folder.save(15, make_state(15), make_progress(15))
    assert_is_step(restore(copy), 15)


def test_an_interrupted_save_can_be_repeated(copy, monkeypatch):
    def interrupted(self, *args, **kwargs):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(ocp.CheckpointManager, "save", interrupted)
    with resume(copy) as folder:
        with pytest.raises(KeyboardInterrupt):
            folder.save(15, make_state(15), make_progress(15))
        folder.save(15, make_state(15), make_progress(15))
    assert_is_step(restore(copy), 15)


def test_a_second_run_cannot_write_the_folder(tmp_path):
    path = tmp_path / "run"
    with RunFolder(path, CONFIG):
        with pytest.raises(RunFolderError, match=f"{path}: another process"):
            resume(path)
        code = (
            "import fcntl, sys\n"
            "fcntl.flock(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        )
        arguments = [sys.executable, "-c", code, str(path / ".lock")]
        other = subprocess.run(arguments, capture_output=True, text=True)
        assert "BlockingIOError" in other.stderr
    resume(path).close()  # free again


def test_a_run_is_not_overwritten(copy):
    with pytest.raises(RunFolderError, match=r"already holds a run.*--resume"):
        RunFolder(copy, CONFIG)
    assert_is_step(restore(copy), 10)


def test_another_configuration_is_named(copy):
    other = {**CONFIG, "evolution": {"strategy": "pgpe", "std": 0.5}}
    with pytest.raises(
        RunFolderError, match=r"evolution.strategy: 'snes' there, 'pgpe'"
    ):
        RunFolder(copy, other, resume=True)
    with pytest.raises(RunFolderError, match="extra: None there, 1 here"):
        RunFolder(copy, {**CONFIG, "extra": 1}, resume=True)
    resume(copy).close()  # the failed attempts hold no lock


def edit_run_json(path, **changes):
    content = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**content, **changes}))


def test_another_format_version_is_named(copy):
    edit_run_json(copy, format_version=99)
    with pytest.raises(RunFolderError, match=r"run.json: format version 99"):
        resume(copy)


@pytest.mark.parametrize("content", ["", '{"format_version": 1', "[]", "\x00\xff"])
def test_a_damaged_configuration_is_named(copy, content):
    (copy / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunFolderError, match=r"run.json: not "):
        resume(copy)


def test_a_changed_machine_is_a_warning(copy):
    edit_run_json(copy, machine={"backend": "gpu", "num_devices": 8, "jax": "0.1"})
    with pytest.warns(UserWarning, match=r"started on .*gpu.*differ in its last bits"):
        assert_is_step(restore(copy), 10)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MiB; needs the right to mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("mounting a file system is not allowed here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_one_clear_line(tiny_disk, capfd):
    filler = tiny_disk / "filler"
    with RunFolder(tiny_disk / "run", CONFIG) as folder:
        folder.save(5, make_state(5), make_progress(5))
        with pytest.raises(OSError, match="No space"), open(filler, "wb") as file:
            while True:
                file.write(bytes(4096))
        calls = [
            lambda: folder.save(10, make_state(10), make_progress(10)),
            lambda: folder.write_json("summary.json", {"text": "x" * 10_000}),
            lambda: folder.append_metrics({"text": "x" * 10_000}),
        ]
        for call in calls:
            with pytest.raises(RunFolderError, match=r"No space left.*free some space"):
                call()
        assert_is_step(folder.restore(make_state(0)), 5)
        filler.unlink()  # the same folder works again
        folder.save(10, make_state(10), make_progress(10))
    assert_is_step(restore(tiny_disk / "run"), 10)
    assert capfd.readouterr() == ("", "")


def test_a_read_only_disk_is_one_clear_line(tiny_disk):
    save_steps(tiny_disk / "run", 5)
    remount = ["mount", "-o", "remount,ro", str(tiny_disk)]
    subprocess.run(remount, check=True)
    for path in (tiny_disk / "run", tiny_disk / "new"):
        with pytest.raises(RunFolderError, match=r"Read-only.*make it writable"):
            RunFolder(path, CONFIG, resume=path.exists())


def test_a_file_size_limit_is_one_clear_line(copy, capfd):
    """The same without the right to mount anything: no file above 128 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with resume(copy) as folder:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, hard))
        try:
            with pytest.raises(
                RunFolderError, match=r"File too large.*free some space"
            ):
                folder.save(15, make_state(15), make_progress(15))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        folder.save(15, make_state(15), make_progress(15))
    assert_is_step(restore(copy), 15)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError(  # as tensorstore words it
                'RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database: Failed to '
                "write 252255 bytes to file 15: No space left on device "
                "[os_error_code='28'] [source locations='x.cc:1']\nTraceback"
            ),
            "No space left on device.*free some space",
        ),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (
            RuntimeError("the event loop is closed\nTraceback"),
            "RuntimeError: the event",
        ),
    ],
)
def test_errors_inside_orbax_are_one_clear_line(copy, monkeypatch, error, message):
    def failing(self, *args, **kwargs):
        raise error

    with resume(copy) as folder:
        monkeypatch.setattr(ocp.CheckpointManager, "save", failing)
        with pytest.raises(RunFolderError, match=message) as caught:
            folder.save(15, make_state(15), make_progress(15))
        assert "\n" not in str(caught.value)
        monkeypatch.undo()
        folder.save(15, make_state(15), make_progress(15))
    assert_is_step(restore(copy), 15)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, code):
    def failing(self, *args, **kwargs):
        raise OSError(code, "no way")

    monkeypatch.setattr(Path, "mkdir", failing)
    with pytest.raises(RunFolderError, match=r"new: cannot be written \(no way\)"):
        RunFolder(tmp_path / "new", CONFIG)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="file"):
        RunFolder(tmp_path / "file", CONFIG)


def test_metrics_and_summary(tmp_path):
    with RunFolder(tmp_path, CONFIG) as folder:
        assert folder.summary is None
        rows = [{"generation": i, "fitness": i / 2} for i in (1, 2, 3)]
        for row in rows:
            folder.append_metrics(row)
        lines = (tmp_path / "metrics.csv").read_text().splitlines()
        assert lines == ["generation,fitness", "1,0.5", "2,1.0", "3,1.5"]
        folder.start_metrics(rows[:1])  # back to a checkpoint
        folder.append_metrics({"generation": 2, "fitness": 9.0})
        lines = (tmp_path / "metrics.csv").read_text().splitlines()
        assert lines == ["generation,fitness", "1,0.5", "2,9.0"]
        folder.write_json("summary.json", {"mean": 1.5})
        assert folder.summary == {"mean": 1.5}
        (tmp_path / "summary.json").write_text("{")
        with pytest.raises(RunFolderError, match=r"summary.json: not valid JSON"):
            _ = folder.summary


def test_next_run_folder(tmp_path):
    assert next_run_folder(tmp_path / "runs") == tmp_path / "runs" / "0001"
    for name in ("0001", "0007", "12a", "notes"):
        (tmp_path / name).mkdir()
    assert next_run_folder(tmp_path) == tmp_path / "0008"


def test_a_folder_is_looked_at_before_anything_is_computed(tmp_path):
    file, run, empty = tmp_path / "file.py", tmp_path / "run", tmp_path / "empty"
    file.write_text("")
    empty.mkdir()
    RunFolder(run, CONFIG).close()
    for path, resume, message in (
        (file, False, "is a file"),
        (file, True, "is a file"),
        (tmp_path / "none", True, "there is no such folder"),
        (empty, True, "holds no run to resume"),
        (run, False, "already holds a run"),
    ):
        with pytest.raises(RunFolderError, match=message):
            check_run_folder(path, resume=resume)
    for path, resume in ((run, True), (empty, False), (tmp_path / "none", False)):
        check_run_folder(path, resume=resume)

"""The cheap part of `python -m benchmarks.faults`; all of it is run by hand."""

import errno
import os
import signal

import numpy as np
import pytest

import envs
import finetune
from benchmarks.faults import files
from benchmarks.faults.steady import drifts
from jaxrl_runs.commands import run_command
from jaxrl_runs.run_folder import RunFolderError

ROWS = 40


def a_log():
    obs = np.arange(ROWS + 1, dtype=np.float32)[:, None]
    return envs.Transitions(
        obs=obs[:-1],
        action=np.arange(ROWS) % 2,
        reward=np.ones(ROWS, np.float32),
        next_obs=obs[1:],
        terminated=np.arange(ROWS) == ROWS - 1,
        truncated=np.zeros(ROWS, bool),
    )


@pytest.mark.parametrize("read", [envs.Transitions.load, envs.read_transitions])
def test_damaged_files_are_refused(read, tmp_path):
    path = tmp_path / "log.npz"
    a_log().save(path)
    row = files.damaged("log", path, lambda: read(path), 15)
    assert row.passed, row.found
    assert row.tried > 30


def test_tables_of_runs_announce_their_size(tmp_path):
    """A terabyte that a header announces is not asked for."""
    path = tmp_path / "table.npz"
    arrays = {name: np.zeros((2, 2), np.float32) for name in ("hp", "meta_features")}
    np.savez(path, **arrays)
    for kind, content in files.lying(path.read_bytes())[:3]:
        assert kind == "oversized"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bytes do not hold|not readable"):
            finetune.read_npz(path)


@pytest.mark.slow  # `test_equal_fitnesses_do_not_move_a_search`
def test_equal_fitnesses_move_no_search():
    for row in drifts(generations=20):
        assert row.passed, row


def test_surrogates_of_two_fits_are_not_mixed(tmp_path):
    """A kill between the two files of a save over another one."""
    finetune.Surrogates.load().save(tmp_path)
    finetune.Surrogates.load(tmp_path)
    card = tmp_path / "card.json"
    card.write_text(card.read_text().replace("{", "{ ", 1))
    with pytest.raises(ValueError, match="are of different fits"):
        finetune.Surrogates.load(tmp_path)


def test_commands_end_with_a_line_and_a_code(capsys):
    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)

    def wrong():
        raise RunFolderError("runs/1: the disk is full")

    def full():
        raise OSError(errno.EFBIG, "File too large", "model.npz")

    def locked():
        raise PermissionError(errno.EACCES, "Permission denied", "run.json")

    cannot = "error: {}: cannot be written ({}); {} or choose another folder\n"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for main, code, said in (
            (interrupted, 130, "\ninterrupted; continue with --resume\n"),
            (wrong, 2, "error: runs/1: the disk is full\n"),
            (full, 2, cannot.format("model.npz", "File too large", "free some space")),
            (
                locked,
                2,
                cannot.format("run.json", "Permission denied", "make it writable"),
            ),
        ):
            with pytest.raises(SystemExit) as ended:
                run_command(main)
            assert ended.value.code == code
            assert capsys.readouterr().err == said
    finally:
        signal.signal(signal.SIGINT, before)

"""The loop around a tuner: failures, checkpoints, resumes, workers."""

import os
import signal
import subprocess
import sys

import job_task
import numpy as np
import pytest

import finetune
from jaxrl_runs import RunFolderError


def _run(out, train=job_task.train_epoch, **settings):
    return finetune.run(
        train,
        job_task.SPACE,
        out=out,
        progress=False,
        **{"budget": 1e6, "num_epochs": 6, "num_candidates": 5, **settings},
    )


def _steps(log):
    return [(row["run"], row["epoch"], row["score"]) for row in log]


def test_a_job_trains_everything_and_keeps_the_best(tmp_path, capsys):
    result = _run(tmp_path)
    assert result.stopped_by in ("no open candidate", "should_stop")
    assert result.score == max(row["score"] for row in result.log)
    state = (result.checkpoint / "state.json").read_text()
    assert f'"epoch": {result.epoch}' in state
    kept = [path for path in (tmp_path / "runs").glob("*/*")]
    assert len(kept) <= 5 and result.checkpoint in kept
    assert (tmp_path / "curves.png").exists()
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + len(
        result.log
    )
    with pytest.raises(RunFolderError, match="already holds a run"):
        _run(tmp_path)
    with pytest.raises(RunFolderError, match="another configuration"):
        _run(tmp_path, resume=True, seed=1)
    again = _run(tmp_path, resume=True)
    assert _steps(again.log) == _steps(result.log) and again.score == result.score


def test_a_killed_job_goes_on_to_the_same_choices(tmp_path):
    whole = _run(tmp_path / "whole")
    command = [sys.executable, job_task.__file__, str(tmp_path / "killed")]
    paths = os.pathsep.join(sys.path)
    env = {**os.environ, "COUNT": str(tmp_path / "count"), "PYTHONPATH": paths}
    first = subprocess.run(command, env=env, check=False)
    assert first.returncode == -signal.SIGKILL
    result = _run(tmp_path / "killed", resume=True)
    assert len(result.log) > 11
    assert _steps(result.log) == _steps(whole.log)
    assert [row["seconds"] for row in result.log] == [1.0] * len(whole.log)


def test_failures_are_recorded_and_not_chosen_again(tmp_path):
    kinds = {}

    def train(epoch):
        kinds[epoch.run] = kinds.get(epoch.run, 0) + 1
        if epoch.run == 0:
            raise MemoryError
        if epoch.run == 1 and epoch.number == 2:
            return float("nan")
        if epoch.run == 2:
            return "good"
        return job_task.train_epoch(epoch)

    result = _run(tmp_path, train)
    failures = {row["run"]: row["failure"] for row in result.log if row["failure"]}
    assert failures[0] == "out of memory" and kinds[0] == 1
    assert failures[1] == "score is nan" and kinds[1] == 2
    assert "TypeError: train_epoch must return a number" in failures[2]
    assert len(failures) == 3 and result.score > 0


def test_a_function_that_only_fails_ends_the_job_and_can_be_mended(tmp_path):
    def train(epoch):
        raise KeyError("lr")

    many = {"num_candidates": 12}
    with pytest.raises(RuntimeError, match=r"all 8 epochs so far have failed.*lr"):
        _run(tmp_path, train, **many)
    assert _run(tmp_path, resume=True, **many).score > 0


def test_workers_are_processes_that_may_die_or_hang(tmp_path):
    result = _run(
        tmp_path,
        job_task.misbehave,
        workers=2,
        timeout=2.0,
        device_variable="DEVICE",
        num_candidates=5,
        num_epochs=2,
    )
    failures = {row["run"]: row["failure"] for row in result.log if row["failure"]}
    assert "out of memory" in failures[0]
    assert "signal 9" in failures[1]
    assert "longer than 2 s" in failures[2]
    assert set(failures) == {0, 1, 2}
    done = {(row["run"], row["epoch"]) for row in result.log if not row["failure"]}
    assert done == {(3, 1), (3, 2), (4, 1), (4, 2)}
    if (tmp_path / "runs/0003/0002/device").exists():
        assert (tmp_path / "runs/0003/0002/device").read_text() in ("0", "1")


def test_a_loss_of_any_scale_is_minimised(tmp_path):
    def train(epoch):
        return 1e4 - 1e4 * job_task.train_epoch(epoch).score

    result = _run(tmp_path, train, direction="minimize", stop_below=0.0)
    assert result.score == min(row["score"] for row in result.log)
    assert len(result.log) == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 0}, "budget must be a number above 0, got 0"),
        ({"budget": "1h"}, "budget must be a number above 0, got '1h'"),
        ({"timeout": -1.0}, "timeout must be"),
        ({"workers": 1.5}, "workers must be an integer"),
        (
            {"num_workers": 2},
            r"settings must be .*'num_workers'; did you mean 'workers'",
        ),
        ({"num_epochs": 0}, "num_epochs must be an integer"),
        ({"direction": "up"}, "direction must be one of"),
        ({"train": 3}, "train_epoch must be a function .* got 3"),
        ({"train": lambda epoch: 1.0, "workers": 2}, "must be a function of a module"),
    ],
)
def test_job_refuses_before_it_starts(tmp_path, change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        _run(tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_budget_counts_over_resumes(tmp_path):
    first = _run(tmp_path, budget=1e-9)
    assert first.stopped_by == "budget" and first.log == [] and first.config is None
    again = _run(tmp_path, budget=1e6, resume=True)
    assert len(again.log) > 0 and np.isfinite(again.score)

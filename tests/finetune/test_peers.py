"""A published tool beside ours: what it is given, and how its answers are scored."""

import json
import stat

import numpy as np
import pytest

import finetune
from benchmarks.finetuning.arms import GRID
from benchmarks.finetuning.peers import (
    Args,
    as_regret,
    run_quicktunetool,
    write_fold,
)
from finetune.simulate import make_tables, regret


@pytest.fixture(scope="module")
def data():
    return finetune.make_synthetic(num_datasets=3, num_runs=6)


def _tool(tmp_path, text):
    """A program that answers instead of an interpreter with the tool."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_tool_is_given_what_it_may_know(data, tmp_path):
    write_fold(tmp_path / "fold.npz", data, [1])
    with np.load(tmp_path / "fold.npz", allow_pickle=False) as file:
        configs = json.loads(str(file["configs"]))
        np.testing.assert_allclose(file["curves"], data.curves)
        assert file["held_out"].tolist() == [1]
    assert configs[3] == data.config(3)


def test_its_answers_become_regret_as_ours_do(data, tmp_path):
    hour = 3600.0
    best = float(np.nanmax(data.curves[data.dataset == 1]))
    line = {"dataset": 1, "trace": [(hour, 0.3), (4 * hour, best)], "ended": 5 * hour}
    line |= {"num_epochs": 9, "cpu_seconds": 1.0, "fit_cpu_seconds": 2.0}
    tool = _tool(tmp_path, f"echo '{json.dumps(line)}'")
    found = run_quicktunetool(tool, data, [1], Args(tmp_path))
    assert found["num_epochs"].tolist() == [9]
    row = found["best"][0]
    assert row[hour > GRID].max() == 0 and row[4 * hour <= GRID].min() == best
    assert set(row[(hour <= GRID) & (4 * hour > GRID)]) == {0.3}
    tables = make_tables(data)
    table = type(tables)(*(getattr(tables, f)[1] for f in tables.__dataclass_fields__))
    np.testing.assert_allclose(
        as_regret(data, found["dataset"], found["best"])[0],
        regret(table, row),
        rtol=1e-4,
    )


def test_what_it_said_when_it_failed_is_told(data, tmp_path):
    tool = _tool(tmp_path, "echo no such module >&2; exit 3")
    with pytest.raises(RuntimeError, match="no such module"):
        run_quicktunetool(tool, data, [1], Args(tmp_path))
    with pytest.raises(ValueError, match="--folds must be among 0 to 4"):
        Args(tmp_path, folds=(5,))

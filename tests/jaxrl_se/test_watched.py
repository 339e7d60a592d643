"""A training that is watched is the same training."""

import csv

import jax
import matplotlib
import numpy as np
import pytest
from tiny import AGENTS, OPTIONS

import jaxrl_se
from jaxrl_runs.statistics import bootstrap_ci95

AGENT, TASK = AGENTS["DDQN"]


def test_rows_come_and_nothing_else_changes(tmp_path, capfd):
    rows = []
    sink = jaxrl_se.each(rows.append, jaxrl_se.CSVSink(tmp_path / "log.csv"))
    watched = jaxrl_se.train(
        AGENT,
        *TASK,
        1,
        **OPTIONS,
        on_progress=sink,
        log_every=25,
        test_task=TASK,
        test_episodes=2,
        progress=False,
    )
    alone = jaxrl_se.train(AGENT, *TASK, 1, **OPTIONS)
    for a, b in zip(*map(jax.tree.leaves, (watched, alone)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert [row["steps"] for row in rows] == [25, 50, 60]
    assert all(np.isfinite(row["loss"] + row["test_return"]) for row in rows)
    assert capfd.readouterr() == ("", "")
    with (tmp_path / "log.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [float(row["episode_return"]) for row in written] == [
        pytest.approx(row["episode_return"], nan_ok=True) for row in rows
    ]
    assert jax.tree.leaves(watched.agent) == jax.tree.leaves(AGENT)


def test_sinks(tmp_path):
    log = jaxrl_se.CSVSink(tmp_path / "new" / "log.csv")
    log({"generation": 1})
    log({"generation": 2, "validation": 3.5})
    lines = (tmp_path / "new" / "log.csv").read_text().split()
    assert lines == ["generation,validation", "1,", "2,3.5"]
    with pytest.raises(FileExistsError, match="which has rows; append=True"):
        jaxrl_se.CSVSink(log.path)
    again = jaxrl_se.CSVSink(log.path, append=True)
    again({"generation": 3, "fitness": 4})
    lines = log.path.read_text().split()
    assert lines == ["generation,validation,fitness", "1,,", "2,3.5,", "3,,4"]
    for bad in (tmp_path, log.path / "below"):
        with pytest.raises(OSError, match="path must be a file that can be written"):
            jaxrl_se.CSVSink(bad)
    log.path.write_text("a,b\n1\n")
    with pytest.raises(ValueError, match="path must be a table to go on with"):
        jaxrl_se.CSVSink(log.path, append=True)
    pytest.importorskip("tensorboardX")
    board = jaxrl_se.TensorBoardSink(tmp_path / "board")
    board({"generation": 1, "fitness": 2.0})
    board.close()
    (file,) = (tmp_path / "board").iterdir()
    assert b"fitness" in file.read_bytes()


def test_bad_watches_are_named():
    with pytest.raises(ValueError, match="log_every must come with on_progress"):
        jaxrl_se.train(AGENT, *TASK, 0, 60, log_every=10)
    with pytest.raises(ValueError, match="num_agents=2; jaxrl_se"):
        jaxrl_se.train(AGENT, *TASK, 0, 60, num_agents=2, on_progress=print)
    for bad in (0, "a", 1.5):
        with pytest.raises(ValueError, match="log_every must be an integer"):
            jaxrl_se.train(AGENT, *TASK, 0, 60, log_every=bad, on_progress=print)
    with pytest.raises(TypeError, match=r"on_progress must be a function \(row\)"):
        jaxrl_se.train(AGENT, *TASK, 0, 60, on_progress=5)


def test_several_agents_with_a_bar_learn_as_without(monkeypatch, capsys):
    monkeypatch.setattr("jaxrl_se.watched._SECONDS_BEFORE_BAR", 0.0)
    asked: dict = {"num_agents": 4, "num_snapshots": 3}
    quiet = jaxrl_se.train(AGENT, *TASK, 0, 60, **asked)
    assert not capsys.readouterr().err
    shown = jaxrl_se.train(AGENT, *TASK, 0, 60, **asked, progress=True)
    jax.tree.map(np.testing.assert_array_equal, quiet.snapshots, shown.snapshots)
    np.testing.assert_array_equal(quiet.steps_taken, shown.steps_taken)
    said = capsys.readouterr().err
    assert "60.0/60.0" in said and "return=" in said


def test_one_agent_has_no_interval():
    from matplotlib.figure import Figure

    one = np.ones((1, 3))
    nothing = np.full(3, np.nan)
    curve = jaxrl_se.LearningCurve(
        np.arange(3), one, one[0], nothing, nothing, label="one"
    )
    axis = curve.plot(Figure().subplots())
    assert not axis.collections and "no interval" in axis.get_ylabel()
    np.testing.assert_array_equal(bootstrap_ci95(np.ones(1)), nothing[:2])


def test_a_learning_curve_is_that_of_the_snapshots():
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    curve = jaxrl_se.learning_curve(
        AGENT, TASK, 0, 60, num_agents=4, num_points=3, num_episodes=2
    )
    assert curve.steps.tolist() == [20, 40, 60] and curve.returns.shape == (4, 3)
    middle = np.sort(curve.returns, axis=0)[1:3].mean(axis=0)
    np.testing.assert_allclose(curve.iqm, middle)
    assert (curve.low <= curve.iqm).all() and (curve.iqm <= curve.high).all()
    axis = Figure().subplots()
    assert curve.plot(axis) is axis
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), curve.iqm)
    assert curve.label == "DDQN"

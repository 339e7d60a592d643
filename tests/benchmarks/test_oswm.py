"""The one-shot world model benchmark, with tiny budgets."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import envs
from benchmarks.oswm import agents, one_step, unseen
from benchmarks.oswm import benchmark as oswm
from benchmarks.oswm.data import Data
from benchmarks.oswm.models import BASELINES, make_model
from benchmarks.oswm.tasks import TASKS
from oswm import Context, Ridge

GRID = TASKS["GridWorld"]


def files(tmp_path, seed=0):
    """A linear task with a column that never changes."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(80, 3)).astype(np.float32)
    obs[:, 1] = 2.0
    action = rng.uniform(-1, 1, (80, 1)).astype(np.float32)
    next_obs = obs + np.array([0.1, 0.0, -0.2], np.float32) * action
    rows = envs.Transitions(
        obs, action, obs[:, 0] + 1, next_obs, *[np.zeros(80, bool)] * 2
    )
    path = tmp_path / f"{seed}.npz"
    rows.save(path)
    return path


def test_transitions_of_ones_own(tmp_path, capsys):
    options = oswm.Options(
        context=files(tmp_path),
        queries=files(tmp_path, 1),
        models=("ridge", "persistence", "knn"),
        out=tmp_path / "out",
        cache=False,
    )
    oswm.run(options)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    errors = summary["one_step_error"]
    assert set(errors) == {"ridge", "persistence", "knn"}
    assert all(len(row) == 4 for row in errors.values())
    assert max(errors["ridge"]) < 1e-6 < errors["knn"][0] < errors["persistence"][0]
    assert errors["persistence"][1] == 0.0
    assert "persistence" in capsys.readouterr().out


def test_queries_of_another_task_are_refused(tmp_path):
    rows = envs.collect(envs.make("GridWorld"), 50, key=0)
    rows.save(tmp_path / "grid.npz")
    options = oswm.Options(
        context=tmp_path / "grid.npz",
        queries=files(tmp_path),
        out=tmp_path / "out",
        cache=False,
    )
    with pytest.raises(ValueError, match="--queries must have observations of size 2"):
        oswm.run(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "--seeds"),
        ({"tasks": ("Pong",)}, "--tasks must be of"),
        ({"models": ("gpt",)}, "--models must be of"),
        ({"context": "x.npz"}, "--context and --queries"),
        ({"resume": True}, "--resume needs --out"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        oswm.Options(**options)


def test_every_model_of_the_tables_can_be_made():
    for name in BASELINES:
        assert make_model(name) == make_model(name)


def test_errors_are_over_the_variance_of_the_context():
    context = Context.of(envs.collect(envs.make("CartPole-v1"), 300, key=0))
    perfect = one_step.errors(Ridge(), context, context)
    assert perfect["mean"] < 1e-4 and perfect["per_dimension"][-1] < 1e-9
    far = context.replace(next_obs=context.next_obs + context.next_obs.std(axis=0))
    error = one_step.errors(Ridge(), context, far)
    np.testing.assert_allclose(error["per_dimension"][:4], 1.0, rtol=0.05)


@pytest.mark.slow
def test_roll_outs_compare_the_same_step():
    """Errors of an exact model stay at nothing; a frozen one's grow."""
    task = envs.make("SimpleEnv")
    space = task[0].action_space(task[1])
    rows = envs.collect(task, 300, key=0)
    context = Context.of(rows, space)
    held_out = envs.collect(task, 300, key=1)
    keep = np.abs(held_out.obs[:, 0]) < 15  # Away from the walls.
    assert keep.sum() > 100
    exact, frozen = (
        one_step.roll_outs(make_model(name), context, held_out, space)
        for name in ("kernel_ridge", "persistence")
    )
    assert exact["5"] < 0.05 * frozen["5"] and frozen["5"] > frozen["1"]
    assert np.isnan(exact["50"])  # Episodes have 20 steps.


def test_mixed_data_are_thirds_and_count_the_expert():
    data = Data(GRID)
    data.__dict__["expert"] = jax.tree_util.Partial(lambda obs, key: jax.numpy.int32(0))
    rows = data.collect("mixed", 90, 0)
    assert len(rows) == 90 and (rows.action[:30] == 0).all()
    assert 0.4 < np.mean(rows.action[30:60] == 0) < 0.9
    assert np.mean(rows.action[60:] == 0) < 0.5


@pytest.mark.slow
def test_an_agent_and_a_planner_are_tested_on_the_real_task():
    task = dataclasses.replace(GRID, steps=1024, horizon=6)
    data = Data(task)
    cell = agents.train_and_test(task, data, "ridge", 0, 4)
    assert len(cell["returns"]) == 4 and cell["steps"] == 1024
    found = agents.summarize([cell, cell])
    assert found["mean"] == pytest.approx(np.mean(cell["returns"]))
    references = agents.reference_scores(task, 50)
    assert -17 < references["random policy"] < -11


def test_the_area_under_the_curve():
    """By counting pairs, of which ties count half."""
    rng = np.random.default_rng(0)
    scores, is_one = rng.integers(0, 9, 50), rng.random(50) < 0.3
    pairs = scores[is_one][:, None] - scores[~is_one]
    wanted = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert one_step.area_under_curve(scores, is_one) == pytest.approx(wanted)
    assert np.isnan(one_step.area_under_curve(scores, scores < 0))


@pytest.mark.slow
def test_an_agent_at_its_defaults_closes_some_of_an_unseen_task(capsys, monkeypatch):
    monkeypatch.setattr(unseen, "STEPS", 100)
    cell = unseen.measure("two_queues", "ridge", 0)
    assert list(cell["closed"]) == ["DDQN"] and cell["closed"]["DDQN"] < 1.2
    other = {"closed": {"DDQN": 0.5}}
    found = unseen.print_table({"ridge": {"two_queues": [other, other]}})
    assert found["ridge/two_queues/DDQN"]["ci95"] == [0.5, 0.5]
    assert (
        "two_queues         ridge            DDQN     0.50" in capsys.readouterr().out
    )


def test_the_comparison_counts_cells_within_a_tenth_of_the_best(capsys):
    cell = {"oswm": {"random": 1.0, "half": 3.0}, "ridge": {"random": 2.0, "half": 2.8}}
    worse = {"knn": {"random": 0.95, "half": 2.0}}
    errors = {"CartPole-v0": {"random": cell | worse}}
    one_step.print_comparison(errors, ("oswm", "ridge", "knn"))
    said = capsys.readouterr().out
    assert "best of ridge, knn, picked in hindsight in 1 of 2" in said
    assert "both" not in said
    more = cell | worse | {"mlp_ensemble": {"random": 0.5, "half": 3.0}}
    one_step.print_comparison(
        {"CartPole-v0": {"random": more}}, ("oswm", "knn", "mlp_ensemble")
    )
    said = capsys.readouterr().out
    assert "of the mlp_ensemble in 1 of 2" in said and "of both in 0 of 2" in said
    one_step.print_comparison(errors, ("ridge", "knn"))
    assert not capsys.readouterr().out

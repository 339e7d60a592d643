"""The reward network benchmark, with a tiny budget."""

import json
import sys

import jax
import numpy as np
import pytest

import jaxrl_se
from benchmarks.reward_networks import benchmark as reward_networks
from benchmarks.reward_networks.benchmark import NO_NETWORK, Options, summarize
from benchmarks.reward_networks.tasks import CARTPOLE, CLIFF, KINDS, TASKS
from envs.cliff import START

TINY = {
    "task": "cliff",
    "kinds": ("additive-potential",),
    "networks": 2,
    "agents": 2,
    "rows": ("same", "varied"),
    "steps": 100,
    "generations": 1,
    "population": 4,
    "train_steps": 50,
    "cache": False,
}


@pytest.mark.slow  # a whole benchmark
def test_a_run_from_evolution_to_pictures(tmp_path, capsys, monkeypatch):
    options = Options(**TINY, out=tmp_path / "run")
    reward_networks.run(options)
    shown = capsys.readouterr().out
    summary = json.loads((options.out / "summary.json").read_text())
    for row in ("same", "varied"):
        table = summary["rows"][row]
        assert set(table) == {
            NO_NETWORK,
            "count-based",
            "additive-potential",
            "additive-potential, best",
        }
        assert all(-100 <= x["mean"][0] <= -12 for x in table.values())
        networks = table["additive-potential"]["networks"]
        assert np.shape(networks) == (2, 1)  # all of them, not the best alone
    assert "additive-potential: 2 networks in" in shown
    assert "same: QLearning with the paper's settings" in shown
    assert shown.count("\nsame ") == 4
    card = (options.out / "best.md").read_text()
    assert "--kinds additive-potential --networks 2 --agents 2 --rows same" in card
    assert jaxrl_se.read_card(options.out / "best.npz")["num_weights"] == 49
    for name in ("curves.png", "cliff.png", "additive-potential-1.npz"):
        assert (options.out / name).stat().st_size > 500
    env, params = jaxrl_se.load(options.out / "additive-potential-0.npz")
    assert env.config.kind == "additive-potential" and params.discount == pytest.approx(
        0.99
    )

    # Finished cells are not measured again.
    def fail(*_):
        raise AssertionError("evolved again")

    monkeypatch.setattr(jaxrl_se, "evolve", fail)
    monkeypatch.setattr(reward_networks, "train", fail)
    reward_networks.run(Options(**TINY, out=options.out, resume=True))
    assert capsys.readouterr().out == shown


def test_the_best_network_is_chosen_by_other_agents():
    """By its choice cell, highest first, whatever the table's agents did."""
    options = Options("cliff", ("additive",), 2, 1, ("same",), 5000)
    curve = np.full((1, 100), -12.0)
    done = {
        "choice/additive/0": -30.0,
        "choice/additive/1": -20.0,
        "curves/same/additive/0": curve.tolist(),
        "curves/same/additive/1": (2 * curve).tolist(),
        f"curves/same/{NO_NETWORK}": (4 * curve).tolist(),
        "curves/same/count-based": (4 * curve).tolist(),
    }
    summary = summarize(CLIFF, options, done)
    table = summary["rows"]["same"]
    assert summary["best"] == {"additive": 1}
    assert table["additive, best"]["mean"] == [-24.0] * 5
    assert table["additive"]["mean"] == [-18.0] * 5
    assert summary["points"] == [250, 500, 1000, 2000, 5000]


def test_evolution_starts_anywhere():
    """Half of its episodes, in cells that do not end them."""
    env, params = CLIFF.evolution_pair("exclusive")
    keys = jax.random.split(jax.random.key(0), 400)
    _, states = jax.vmap(env.reset, (0, None))(keys, params)
    assert not jax.vmap(env.is_terminated, (0, None))(states, params).any()
    at_start = np.mean(np.asarray(states.position) == START)
    assert 0.42 < at_start < 0.6
    assert len(np.unique(states.position)) > 30
    assert CLIFF.evolution_starts("exclusive") == "half of them in any cell"
    assert CLIFF.evolution_starts("additive-potential") == "as in the task"


def test_published_figures_fit_the_table():
    for task in TASKS.values():
        for row in task.rows.values():
            for column in row.published.values():
                assert len(column) == len(task.points)
    assert CARTPOLE.rows["same"].published["exclusive-potential"][0] == 198
    assert CLIFF.kinds == KINDS


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kinds": ("aditive",)}, "--kinds must be of .*got 'aditive'"),
        ({"rows": ("sarsa",)}, "--rows must be of same, varied, unseen"),
        ({"steps": 70}, "--steps must be a multiple of 50, got 70"),
        ({"agents": 0}, "--agents must be at least 1"),
        ({"resume": True}, "--resume needs --out"),
    ],
)
def test_bad_options_are_refused(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        reward_networks.run(Options(**(TINY | changes)))


def test_a_missing_extra_names_its_install_command(monkeypatch):
    """Before anything is evolved."""
    monkeypatch.setitem(sys.modules, "mujoco", None)
    monkeypatch.setitem(sys.modules, "mujoco.mjx", None)
    with pytest.raises((ImportError, ValueError), match=r"pip install .*mujoco"):
        TASKS["half_cheetah"].pair(1)

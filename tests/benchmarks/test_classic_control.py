"""The classic-control table, with agents of a second each."""

import json

import pytest

from benchmarks.synthetic import classic_control
from benchmarks.synthetic.classic_control import Options, measure, print_table, reaches
from jaxrl_runs.run_folder import RunFolder
from jaxrl_se import DDQN, Choice, Varied

AGENT = Varied.of(
    DDQN(learning_rate=1e-2, target_update_rate=0.05, learning_starts=8),
    discount=Choice((0.9, 0.99)),
)


@pytest.mark.slow  # a whole benchmark; `test_cartpole` runs one
def test_measures_every_cell_once_and_keeps_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classic_control, "RIVAL", {"CartPole-v1": {"dqn": 500.0}})
    monkeypatch.setattr(
        classic_control, "liesen2024_agents", lambda task: {"dqn": AGENT}
    )
    options = Options(tasks=("CartPole-v1",), agents=4, episodes=2, steps=200)
    with RunFolder(tmp_path / "run", {}) as folder:
        cells = measure(options, folder)
        assert json.loads((folder.path / "cells.json").read_text()) == cells
        assert measure(options, folder) == cells  # nothing is measured again
    synthetic, real, random = (
        cells[f"CartPole-v1/{name}"]
        for name in ("dqn/synthetic", "dqn/real", "random/real")
    )
    assert synthetic["iqm"] > 450 > real["iqm"] and 10 < random["iqm"] < 40
    assert reaches(synthetic, 450.0) and not reaches(random, 450.0)
    print_table(options, cells)
    assert "CartPole-v1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tasks": ("CartPole-v9",)}, "--tasks"),
        ({"agents": 0}, "--agents"),
        ({"env": "x.npz"}, "--env needs a single task"),
        ({"resume": True}, "--resume needs --out"),
    ],
)
def test_bad_options_are_named(fields, named):
    with pytest.raises(ValueError, match=named):
        Options(**fields)

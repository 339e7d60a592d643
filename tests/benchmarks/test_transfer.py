"""The transfer table, with budgets of a few seconds."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.synthetic.benchmark import Benchmark
from benchmarks.synthetic.cartpole import CARTPOLE
from benchmarks.transfer import benchmark as transfer
from benchmarks.transfer import conditions as transfer_conditions
from benchmarks.transfer.benchmark import Options, run, summarize
from benchmarks.transfer.conditions import TASKS
from jaxrl_se import DDQN
from jaxrl_se.hyperparameters import Varied

_AGENT = DDQN(hidden_sizes=(2,), batch_size=2, learning_starts=2)
_CONFIG = CARTPOLE.configs["one-step"].replace(
    agent=_AGENT,
    train_steps=10,
    population_size=4,
    validation_agents=2,
    validation_episodes=1,
    max_generations=1,
)
TINY = dataclasses.replace(
    TASKS["CartPole-v0"],
    benchmark=Benchmark("", "CartPole-v1", {"one-step": _CONFIG}),
    agents={"ddqn": _AGENT},
    inner=_AGENT,
    inner_steps=10,
    steps={"ddqn": 20},
    real_steps=60,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("transfer") / "run"
    options = Options(
        environments=1, agents=3, episodes=2, transitions=(60,), out=out, cache=False
    )
    with pytest.MonkeyPatch.context() as patch:
        fit = transfer_conditions.fit
        patch.setattr(
            transfer_conditions,
            "fit",
            lambda *a, **k: fit(*a, **k | {"num_updates": 3}),
        )
        run(TINY, options)
    return out, options


@pytest.mark.slow
def test_every_condition_has_every_agent_of_every_environment(finished):
    out, _ = finished
    cells = json.loads((out / "cells.json").read_text())
    for condition in ("varied", "fixed", "model-60", "real"):
        results = cells[f"{condition}/ddqn"]
        assert len(results) == 1
        assert all(np.shape(result["returns"]) == (3,) for result in results)
        steps = np.array([result["steps"] for result in results])
        evolved = condition in ("varied", "fixed")
        assert np.all(steps == 20) if evolved else np.all((steps > 0) & (steps <= 60))
    assert np.shape(cells["noise"]) == (5, 5)
    for name in ("noise_robustness.png", "what_agents_see.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_resuming_measures_nothing_again(finished, monkeypatch, capsys):
    _, options = finished

    def forbidden(*args, **kwargs):
        raise AssertionError("measured again")

    for name in ("train_and_test", "evolve", "measure_noise"):
        monkeypatch.setattr(transfer, name, forbidden)
    run(TINY, dataclasses.replace(options, resume=True, pictures=False))
    lines = capsys.readouterr().out.splitlines()
    published = next(line for line in lines if "ddqn" in line and "varied" in line)
    assert "190.7" in published and "6,819" in published


def test_the_conditions_differ_in_the_inner_agent_alone():
    for task in TASKS.values():
        fixed, varied = (task.config(c, "one-step") for c in ("fixed", "varied"))
        assert isinstance(varied.agent, Varied) and not isinstance(fixed.agent, Varied)
        assert varied.proxy == fixed.proxy and varied.strategy == fixed.strategy


def test_intervals_are_of_environments():
    # Two environments of agents that agree with each other: agents taken for
    # independent ones would make the interval ten times shorter.
    results = [
        {"returns": [level] * 100, "steps": [1] * 100, "episodes": [1] * 100}
        for level in (0.0, 200.0)
    ]
    assert summarize("varied", results)["returns_ci95"] == [0.0, 200.0]
    low, high = summarize("real", results)["returns_ci95"]
    assert 80 < low < high < 120
    assert summarize("varied", results)["worst_environment"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"agents": 0}, "--agents"),
        ({"transitions": (1,)}, "--transitions"),
        ({"resume": True}, "--out"),
    ],
)
def test_bad_options_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        Options(**arguments)

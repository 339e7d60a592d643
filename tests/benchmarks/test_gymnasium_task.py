"""The commands for tasks outside JAX, as far as nothing has to run for long."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from benchmarks.external import baselines, distributed, gymnasium_task
from benchmarks.external.card import write_card
from benchmarks.external.settings import SETTINGS, Settings, agents_to_test, config_of
from benchmarks.external.simple_play import doing_nothing
from envs.spaces import Spaces
from envs.steps import Steps
from jaxrl_se.evolution_run import Progress


@pytest.mark.parametrize("name", [*SETTINGS, "another task"])
def test_every_task_has_a_configuration(name):
    settings = SETTINGS.get(name, Settings())
    config = config_of(settings)
    assert config.proxy.obs_range == settings.obs_range
    assert config.agent.hidden_sizes == settings.hidden_sizes
    if settings.horizon is not None:
        assert config.horizon.at(10_000) == settings.horizon[1]


@pytest.mark.parametrize(
    ("spaces", "expected"),
    [
        (Spaces(4, 2), {"DDQN", "SAC", "PPO"}),
        (
            Spaces(3, action_low=(-1.0,), action_high=(1.0,)),
            {"SAC", "TD3", "DDPG", "PPO"},
        ),
    ],
)
def test_agents_of_every_kind_fit_the_actions(spaces, expected):
    agents = agents_to_test(spaces)
    assert set(agents) == expected
    for agent in agents.values():
        agent.check(spaces)


def test_what_is_kept_of_a_run(tmp_path, monkeypatch):
    options = gymnasium_task.Options("Swimmer-v5", seed=3, generations=7)
    returns = {
        "SAC": np.array([310.0, 330.0]),
        "PPO": np.array([290.0, 350.0]),
        "best response": np.array([340.0]),
        "random": np.array([0.0]),
        "doing nothing": np.array([-1.0]),
    }
    result = SimpleNamespace(
        params=SimpleNamespace(weights={"w": np.zeros((2, 3))}),
        progress=Progress(generation=7, cpu_seconds=60.0).counted(Steps(real=1000)),
        validation=345.0,
    )
    cost = SimpleNamespace(engine_seconds=1.0, policy_seconds=1.0)
    task = SimpleNamespace(cost=cost, engine="envpool")
    monkeypatch.setattr(gymnasium_task, "tree_sha256", lambda _: "0" * 64)
    found: Any = result
    summary = gymnasium_task.summary_of(
        options,
        found,
        task,
        returns,
        40_000,
        tested_by="gymnasium",
        test_cpu_seconds=30.0,
    )
    assert summary["cpu_seconds"] == 90
    assert summary["gymnasium_return_mean"] == 320 and summary["agents"] == 4
    assert summary["return_p10"] == pytest.approx(296)
    assert summary["reaches_must"] and summary["real_steps"] == 1000
    assert summary["command"].endswith("--seed 3 --generations 7")
    write_card(tmp_path / "card.md", summary)
    card = (tmp_path / "card.md").read_text()
    assert "| 2 PPO, mean and worst | 320.0, 290.0 |" in card
    assert "6 evolved numbers" in card and "doing nothing | 0.0; -1.0 |" in card


def test_what_several_processes_are_worth():
    job = {"all_processes_agree": True, "compile_seconds": 1.0}
    job |= {"exchange_seconds": 0.01, "strategy_seconds": 0.03}
    rows = {
        "alone": job | {"params_sha256": "a", "seconds": 9.0, "cpu_seconds": 8.0},
        "together": job | {"params_sha256": "b", "seconds": 5.0, "cpu_seconds": 8.0},
        "apart": job | {"params_sha256": "b", "seconds": 6.0, "cpu_seconds": 9.0},
    }
    options = distributed.Options(processes=2, generations=10, population=32)
    summary = distributed.summary_of(options, rows)
    assert summary["same_bits"] and summary["params_sha256"] == ["b", "b"]
    assert summary["speedup"] == 1.5 and summary["bytes_per_generation"] == 128
    assert summary["shared_seconds_per_generation"] == pytest.approx(0.8)
    assert summary["processes_at_half_speed"] == pytest.approx(20)
    rows["apart"]["all_processes_agree"] = False
    assert not distributed.summary_of(options, rows)["same_bits"]


def test_bad_options():
    with pytest.raises(ValueError, match="--generations must be at least 1, got 0"):
        gymnasium_task.Options("Swimmer-v5", generations=0)
    with pytest.raises(ValueError, match="--resume needs --out"):
        gymnasium_task.Options("Swimmer-v5", resume=True)
    with pytest.raises(ValueError, match="--population must be a multiple of 3"):
        distributed.Options(processes=3)
    with pytest.raises(ValueError, match=r"--agents must be among .* got .'A2D'"):
        baselines.Options("Swimmer-v5", agents=("A2D",))


@pytest.mark.parametrize(
    ("space", "action"),
    [(Discrete(4, start=1), 0), (Box(np.array([-1.0, 0.0]), 2.0, (2,)), [0.5, 1.0])],
)
def test_doing_nothing(space, action):
    assert np.asarray(doing_nothing(space)(np.zeros(3))).tolist() == action

"""Rounds with few real steps: exact counts, exploring, when they end, going on."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from evolution_cases import CARTPOLE

import envs
import jaxrl_se
import oswm
from jaxrl_se import LogConfig, RoundsConfig, evolve_in_rounds, log_rounds
from jaxrl_se.log_rounds import Round, episode_returns, is_over, joined

CONFIG = RoundsConfig(
    real_steps=345,
    first_rows=300,
    log=LogConfig(model=oswm.Ridge(), num_worlds=1),
    evolution=CARTPOLE.replace(max_generations=2, stop_return=math.inf),
)


def _short(name: str) -> envs.Task:
    env, params = envs.make(name)
    return envs.open_task((env, params.replace(max_steps_in_episode=20)))


@pytest.mark.parametrize(
    ("rows", "steps"),
    [
        ([300], [5]),
        # One agent of 20 steps, twice, and 5 that are left. Each round compiles anew;
        # `test_rounds_end...` and `test_rows_are_joined...` hold what follows.
        pytest.param([300, 320, 340], [20, 20, 5], marks=pytest.mark.slow),
    ],
)
def test_real_steps_are_kept_exactly_and_rows_are_not_played_twice(
    rows, steps, tmp_path, monkeypatch
):
    task, real_steps = _short("CartPole-v1"), rows[-1] + 5
    config = dataclasses.replace(CONFIG, real_steps=real_steps)
    result = evolve_in_rounds(task, config, 1, out=tmp_path / "run", progress=False)
    assert result.progress.real_steps == real_steps
    assert result.log is not None
    assert len(result.log) == real_steps
    assert [r.rows for r in result.rounds] == rows
    assert [r.steps for r in result.rounds] == steps
    assert not any(r.explored for r in result.rounds)
    assert result.outside is not None
    assert result.outside.mean == max(r.outside for r in result.rounds)
    assert "rounds (* the result)" in repr(result)

    def nothing(*_):
        raise AssertionError("rows that are there were played again")

    monkeypatch.setattr(log_rounds.envs, "collect", nothing)
    again = evolve_in_rounds(
        task, config, 1, out=tmp_path / "run", resume=True, progress=False
    )
    assert again.rounds == result.rounds
    assert again.progress.steps == result.progress.steps
    jax.tree.map(
        np.testing.assert_array_equal, again.params.weights, result.params.weights
    )


@pytest.mark.slow  # two rounds of evolution in a sparse task
def test_rounds_explore_as_long_as_no_row_says_where_to_go():
    config = dataclasses.replace(CONFIG, real_steps=320, max_rounds=1)
    result = evolve_in_rounds(_short("MountainCar-v0"), config, 0, progress=False)
    assert [r.explored for r in result.rounds] == [True]
    assert result.rounds[0].outside == -20.0
    assert result.rounds[0].inside > 0  # novelty


def _round(inside, outside, explored=False):
    return Round(1000, explored, inside, outside, {"DDQN": (outside,)}, 500)


def test_rounds_end_where_inside_and_outside_agree_and_nothing_improves():
    def over(*rounds):
        return is_over(list(rounds), 0.0, CONFIG)

    assert not over(_round(100, 100))  # One more says whether it lasts.
    assert over(_round(100, 100), _round(100, 99))
    assert not over(_round(100, 40), _round(100, 95))  # still better than before
    assert not over(_round(100, 40), _round(100, 40))  # the model is wrong
    assert not over(_round(5, 100, explored=True), _round(5, 100, explored=True))


def test_rows_are_joined_and_cut_episodes_are_not_counted():
    rows = envs.collect("CartPole-v1", 60, 2)
    both = joined(rows, rows)
    assert len(both) == 120
    ends = np.flatnonzero(np.asarray(rows.terminated))
    returns = episode_returns(rows)
    assert sum(returns) == ends[-1] + 1
    cut = jax.tree.map(lambda x: x[:3], rows)
    assert episode_returns(cut) == (3.0,)


def test_evolve_takes_real_steps():
    with pytest.raises(ValueError, match="real_steps must be None where config"):
        jaxrl_se.evolve("CartPole-v1", CARTPOLE, real_steps=2_000)
    with pytest.raises(ValueError, match=r"above first_rows \(1,000\)"):
        jaxrl_se.evolve("CartPole-v1", real_steps=1_000)

"""The picture of return against real steps, and options that are refused."""

import numpy as np
import pytest

from benchmarks.external import reward_networks
from benchmarks.logs import ablation
from benchmarks.logs.pictures import Curve, draw_real_steps
from jaxrl_se import LogConfig


def test_curves_have_means_and_intervals_over_agents(tmp_path):
    returns = np.array([[0.0, 10.0], [4.0, 10.0], [8.0, 10.0]])
    curve = Curve.of([5, 10], returns)
    assert curve.steps == [5.0, 10.0] and curve.mean == [4.0, 10.0]
    assert 0 <= curve.low[0] < 4 < curve.high[0] <= 8
    assert curve.low[1] == curve.high[1] == 10.0
    ways = {"in the task": (0.0, True, curve), "a log": (1000.0, False, curve)}
    draw_real_steps(tmp_path / "picture.png", "CartPole-v1", 9.0, ways)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_the_ablation_are_configurations_that_differ():
    every = [LogConfig().replace(**changes) for changes in ablation.ROWS.values()]
    assert every[0] == LogConfig()
    assert len(set(map(repr, every))) == len(every)


@pytest.mark.parametrize(("name", "value"), [("generations", 0), ("budgets", (0,))])
def test_sizes_of_outside_rewards(name, value):
    with pytest.raises(ValueError, match=f"--{name} must be at least 1"):
        reward_networks.Options(**{name: value})

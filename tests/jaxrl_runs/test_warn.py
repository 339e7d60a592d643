"""Warnings name the line of the user's that led to them."""

import warnings

import envs
import jaxrl_se


def test_warnings_point_at_the_callers_line():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        config = jaxrl_se.EvolutionConfig(agent=jaxrl_se.PPO(), train_steps=7)
        rows = {"obs": [[0.0], [1.0]], "action": [0, 1], "reward": [0.0, 1.0]}
        rows["next_obs"] = [[1.0], [2.0]]
        envs.read_transitions(rows)
    assert config.train_steps == 500
    assert len(found) >= 2
    assert {warning.filename for warning in found} == {__file__}, [
        (str(warning.message), warning.filename) for warning in found
    ]

"""Environments as one line of text."""

import base64

import jax
import numpy as np
import pytest

import jaxrl_se
from jaxrl_se.one_line import PREFIX, to_line

NAMES = [pair for pair in jaxrl_se.available() if pair[1] != "reward-network"]


@pytest.mark.parametrize(("task", "variant"), NAMES)
def test_a_line_is_the_shipped_environment_but_for_rounding(task, variant):
    env, params = jaxrl_se.load(task, variant)
    line = to_line(env, params)
    again, read = jaxrl_se.load(line)
    assert again == env
    assert read.max_steps_in_episode == params.max_steps_in_episode
    for ours, theirs in zip(
        jax.tree.leaves(read.weights), jax.tree.leaves(params.weights), strict=True
    ):
        step = np.abs(theirs).max() / 127
        np.testing.assert_allclose(ours, theirs, atol=0.51 * step)
    if params.obs_range is not None:
        np.testing.assert_allclose(read.obs_range, params.obs_range)
    assert to_line(again, read) == line  # what is rounded stays as it is


def test_a_line_says_that_rewards_are_advantages():
    config = jaxrl_se.SyntheticConfig(hidden_sizes=(), advantage=True, obs_range=None)
    env = config.build(jaxrl_se.Spaces(2, 3))
    assert jaxrl_se.load(to_line(env, env.default_params))[0] == env


def test_the_one_step_cartpole_is_a_short_line():
    line = to_line(*jaxrl_se.load("CartPole-v1"))
    assert len(line) < 100
    assert "\n" not in line


def test_a_line_may_be_broken_by_what_it_was_sent_with():
    line = to_line(*jaxrl_se.load("CartPole-v1"))
    _, params = jaxrl_se.load(f"  {line[:40]}\n {line[40:]}\n")
    for other in (line, line.removeprefix(PREFIX)):
        _, same = jaxrl_se.load(other)
        jax.tree.map(np.testing.assert_array_equal, params, same)
    with pytest.raises((ValueError, FileNotFoundError), match="name_or_path"):
        jaxrl_se.load(3 * line.removeprefix(PREFIX))


def test_damage_is_found():
    line = to_line(*jaxrl_se.load("CartPole-v1"))
    data = bytearray(base64.b64decode(line.removeprefix(PREFIX)))
    data[20] ^= 1
    with pytest.raises(ValueError, match="checksum does not fit"):
        jaxrl_se.load(PREFIX + base64.b64encode(data).decode())
    with pytest.raises(ValueError, match=r"checksum|base64|whole environment"):
        jaxrl_se.load(line[:-5])
    with pytest.raises(ValueError, match="whole environment"):
        jaxrl_se.load(PREFIX)


def test_what_has_no_place_is_refused():
    env, params = jaxrl_se.load("CartPole-v0", "reward-network")
    with pytest.raises(ValueError, match="env must be a synthetic environment"):
        to_line(env, params)

"""Policies whose actions are none of the task's, and tasks that never end."""

import importlib

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from benchmarks.bad_values.broken_tasks import Corridor, Endless
from envs import play

external = importlib.import_module("envs.external")


class Torque(Endless):
    """One step of a continuous action; its reward is an array of one number."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def step(self, action):
        reward = np.asarray(action, np.float64)
        return np.zeros(2, np.float32), reward, np.array([True]), np.array([False]), {}


def always(action):
    return lambda obs, key: jnp.asarray(action)


NUMPY = {"seven": lambda obs, key: np.asarray(7) if float(obs[0]) < 9 else 0}


@pytest.mark.parametrize("task", ["CartPole-v1", Endless])
@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (always(7), r"one of the integers 0 \.\.\. 1 .*got 7"),
        (always(-1), r"one of the integers 0 \.\.\. 1 .*got -1"),
        (NUMPY["seven"], "got 7"),
        (always([0.1, 0.9]), r"shape \(2,\).*argmax"),
        (always(0.7), "float32.*discrete actions are integers"),
        (lambda obs, key: (jnp.int32(0), obs), "return the action alone"),
        (lambda obs, key: obs @ jnp.ones((9, 2)), "observations of shape"),
    ],
)
def test_actions_outside_a_discrete_space_are_named(task, policy, message):
    if task == "CartPole-v1" and policy is NUMPY["seven"]:
        pytest.skip("tasks inside JAX take policies of JAX")
    with pytest.raises(ValueError, match=message):
        jaxrl_se.evaluate(policy, task, 0, 2)


def test_a_flag_is_an_action_of_two():
    policy = lambda obs, key: obs[2] > 0  # noqa: E731
    assert jaxrl_se.evaluate(policy, "CartPole-v1", 0, 2).lengths.min() > 5


def test_actions_outside_bounds_are_said_and_played():
    with pytest.warns(RuntimeWarning, match=r"in \[-2, 2\].*got \[3\.\] in 2 of 2"):
        found = jaxrl_se.evaluate(always([3.0]), "Pendulum-v1", 0, 2)
    at_bound = jaxrl_se.evaluate(always([2.0]), "Pendulum-v1", 0, 2)
    np.testing.assert_array_equal(found.returns, at_bound.returns)
    with pytest.warns(RuntimeWarning, match=r"in \[-1, 1\].*got some outside"):
        found = jaxrl_se.evaluate(always([3.0]), Torque, 0, 2)
    np.testing.assert_array_equal(found.returns, [3, 3])  # An array is a number.


def test_collected_rows_are_looked_at():
    pair = envs.make("CartPole-v1")
    with pytest.raises(ValueError, match="got 5 in 8 of 8 transitions"):
        envs.collect(*pair, 8, 0, policy=always(5))
    with pytest.raises(ValueError, match="argmax"):
        envs.collect(*pair, 8, 0, policy=always([1.0, 2.0]))


def test_agents_of_other_spaces_are_named():
    agent = jaxrl_se.load_agent("CartPole-v1")
    assert jaxrl_se.evaluate(agent, "CartPole-v1", 0, 2).returns.shape == (2,)
    with pytest.raises(ValueError, match=r"observation shape is \(6,\), got .*\(4,\)"):
        jaxrl_se.evaluate(agent, "Acrobot-v1", 0, 2)
    network = jaxrl_se.networks.MLP(4, (4,), 3)
    weights = network.init(jax.random.key(0))
    policy = jaxrl_se.policies.GreedyPolicy(weights, network)
    with pytest.raises(ValueError, match=r"2 actions .*with 3"):
        jaxrl_se.evaluate(policy, "CartPole-v1", 0, 2)


def test_episodes_without_an_end_are_an_error(monkeypatch):
    monkeypatch.setattr(external, "_MOST_STEPS", 50)
    with pytest.raises(RuntimeError, match=r"not end within 50 steps.*time_limit"):
        jaxrl_se.evaluate(always(0), Endless, 0, 2)
    limited = envs.external(Endless, time_limit=20)
    found = jaxrl_se.evaluate(always(0), limited, 0, 2)
    np.testing.assert_array_equal(found.lengths, 20)

    class NeverEnds(Corridor):
        def is_terminal(self, state, params):
            return jnp.bool_(False)

    monkeypatch.setattr(play, "_MOST_STEPS", 60)
    with pytest.raises(RuntimeError, match="not end within 60 steps"):
        jaxrl_se.evaluate(always(0), (NeverEnds(), 3.0), 0, 2)
    found = jaxrl_se.evaluate(always(0), (Corridor(), 3.0), 0, 2)
    np.testing.assert_array_equal(found.lengths, 3)

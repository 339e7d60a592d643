"""Reward networks from the values of policies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from jaxrl_se.shaping import temporal_differences


def test_a_chain_has_its_exact_values():
    """Three states in a row, a reward of 1 at the end: 0.81, 0.9 and 1."""
    before = np.eye(3)
    after = 0.9 * np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    reward, asked = np.array([0.0, 0.0, 1.0]), np.full(3, True)
    value = temporal_differences(before, after, reward, asked, 1e-9)
    np.testing.assert_allclose(value, [0.81, 0.9, 1.0], atol=1e-6)


def test_rows_of_other_actions_are_left_out():
    before = np.eye(3)[[0, 1, 2, 0]]
    after = 0.9 * np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    reward = np.array([0.0, 0.0, 1.0, -100.0])
    asked = np.array([True, True, True, False])
    value = temporal_differences(before, after, reward, asked, 1e-9)
    np.testing.assert_allclose(value, [0.81, 0.9, 1.0], atol=1e-6)


def along_the_edge(obs, key=None):
    """The best way in Cliff: up, along the edge, down at the last column."""
    row, column = jnp.divmod(jnp.argmax(obs), 12)
    last = column == 11
    return jnp.where(last, 2, jnp.where(row == 3, 3, 0)).astype(jnp.int32)


@pytest.fixture(scope="module")
def cliff():
    task = envs.make("Cliff")
    assert jaxrl_se.evaluate(along_the_edge, *task, 0, 1).returns[0] == -12
    return jaxrl_se.shaping_from_policy(along_the_edge, task, 0)


def test_following_the_policy_is_worth_nothing_more(cliff):
    """Each step then pays what the value says: differences are 0, others are losses."""
    env, params = cliff
    rows = envs.collect((env, params), 12, 0, along_the_edge)
    np.testing.assert_allclose(rows.reward, 0.0, atol=0.02)
    off = envs.collect((env, params), 200, 0)
    assert off.reward.max() < 0.05
    assert off.reward.min() < -0.9


def test_agents_learn_a_shaped_task_sooner(cliff):
    task = envs.make("Cliff")
    agent = jaxrl_se.QLearning(learning_rate=1.0, discount=0.99, epsilon=0.1)
    policies = jaxrl_se.train(agent, *cliff, 0, 300, num_agents=8).policy
    shaped = jaxrl_se.evaluate(policies, *task, 1, 1).returns
    policies = jaxrl_se.train(agent, *task, 0, 300, num_agents=8).policy
    plain = jaxrl_se.evaluate(policies, *task, 1, 1).returns
    assert np.mean(shaped) > np.mean(plain) + 20  # -12 and -50


def controller(obs, key=None):
    """Of Pendulum's, in plain Python, which only stands for a shape here."""
    return np.clip(-8 * np.asarray(obs[1:2]) - 2 * np.asarray(obs[2:]), -2.0, 2.0)


def test_bad_input_says_what_is_wrong():
    config = jaxrl_se.Shaping(num_rows=50)
    with pytest.raises(TypeError, match="config must be a Shaping"):
        jaxrl_se.shaping_from_policy(along_the_edge, "Cliff", 0, 0.9)
    with pytest.raises(ValueError, match="discount"):
        jaxrl_se.Shaping(discount=1.5)
    with pytest.raises(TypeError, match="policy"):
        jaxrl_se.shaping_from_policy(3, "Cliff", 0, config)
    with pytest.raises(ValueError, match="inside JAX"):
        jaxrl_se.shaping_from_policy(
            controller, envs.external("Pendulum-v1", num_envs=2), 0, config
        )
    nan = jax.tree_util.Partial(lambda obs, key=None: jnp.full(1, jnp.nan))
    with pytest.raises(ValueError, match="noises"):
        jaxrl_se.Shaping(noises=(1.0,))
    by_key = jax.tree_util.Partial(lambda obs, key: jax.random.randint(key, (), 0, 4))
    with pytest.raises(TypeError, match="must also act without a key"):
        jaxrl_se.shaping_from_policy(by_key, "Cliff", 0, config)
    with pytest.raises(ValueError, match="finite"):
        jaxrl_se.shaping_from_policy(nan, "Pendulum-v1", 0, config)


def test_a_value_that_says_little_is_told():
    """Of Pendulum under a constant push, where actions of chance lose nothing."""
    push = jax.tree_util.Partial(lambda obs, key=None: jnp.full(1, 0.5))
    config = jaxrl_se.Shaping(num_rows=600, hidden_size=16)
    with pytest.warns(RuntimeWarning, match="value is told badly"):
        jaxrl_se.shaping_from_policy(push, "Pendulum-v1", 0, config)

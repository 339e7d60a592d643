"""Perceptrons act on observations of any shape."""

import gymnax
import jax
import numpy as np
import pytest

import jaxrl_se
from jaxrl_se import DDQN, PPO, TaskTest


@pytest.mark.parametrize(
    ("name", "agent", "num_steps"),
    [
        ("FrozenLake-misc", DDQN(hidden_sizes=(8,)), 120),
        (
            "Breakout-MinAtar",
            PPO(hidden_sizes=(8,), num_envs=2, rollout_steps=16, num_minibatches=2),
            64,
        ),
    ],
)
def test_grids_numbers_and_pictures(name, agent, num_steps):
    env, params = gymnax.make(name)
    result = jaxrl_se.train(
        agent, env, params, jax.random.key(0), num_steps, num_agents=2
    )
    first = jax.tree.map(lambda leaf: leaf[0], result.policy)
    obs, _ = env.reset(jax.random.key(1), params)
    assert int(first(obs)) in range(env.num_actions)
    episodes = jaxrl_se.evaluate(first, env, params, jax.random.key(2), 2)
    assert np.isfinite(episodes.returns).all()


def test_tests_on_the_task_see_its_observations():
    env, params = gymnax.make("Catch-bsuite")
    test = TaskTest(params=params, env=env, num_points=2)
    result = jaxrl_se.train(
        DDQN(hidden_sizes=(8,)), env, params, jax.random.key(0), 120, test=test
    )
    assert set(np.unique(result.tests.curve)) <= {-1, 1}

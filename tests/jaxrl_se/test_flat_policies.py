"""Agents act on observations of any shape, flattened or as they are."""

import gymnax
import jax
import numpy as np
import pytest

import envs
import jaxrl_se
from jaxrl_se import DDQN, PPO, SAC, Spaces, TaskTest
from jaxrl_se.agents.replay import Batch
from jaxrl_se.flat_policies import flat_task
from jaxrl_se.torsos import patches


@pytest.mark.parametrize(
    ("name", "agent", "num_steps"),
    [
        ("FrozenLake-misc", DDQN(hidden_sizes=(8,)), 120),
        pytest.param(  # a task that is long to compile; the next test has pictures too
            "Breakout-MinAtar",
            PPO(hidden_sizes=(8,), num_envs=2, rollout_steps=16, num_minibatches=2),
            64,
            marks=pytest.mark.slow,
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


def test_agents_of_a_synthetic_environment_see_pictures_as_vectors():
    """Whether they are given as a result of training or as a policy alone."""
    task = envs.open_task("Catch-bsuite")
    proxy = jaxrl_se.SyntheticConfig(hidden_sizes=()).make(*flat_task(task.pair, None))
    trained = jaxrl_se.train(DDQN(hidden_sizes=(8,)), proxy, 0, 40)
    whole, alone = (
        jaxrl_se.evaluate(x, task, 0, 4).returns for x in (trained, trained.policy)
    )
    np.testing.assert_array_equal(whole, alone)


def test_tests_on_the_task_see_its_observations():
    env, params = gymnax.make("Catch-bsuite")
    test = TaskTest(params=params, env=env, num_points=2)
    result = jaxrl_se.train(
        DDQN(hidden_sizes=(8,)), env, params, jax.random.key(0), 120, test=test
    )
    assert set(np.unique(result.tests.curve)) <= {-1, 1}


@pytest.mark.slow  # 1,500 updates of convolutions; `test_torsos` compares one with MLPs
def test_a_convolution_learns_to_catch():
    env, params = gymnax.make("Catch-bsuite")
    agent = DDQN(epsilon_steps=700, target_update_rate=0.02, network="cnn")
    policy = jaxrl_se.train(agent, env, params, 0, 1500).policy
    assert np.mean(jaxrl_se.evaluate(policy, env, params, 1, 32).returns) > 0.8


def test_patches_are_those_of_a_convolution():
    images = jax.random.normal(jax.random.key(0), (2, 11, 13, 3))
    for kernel, stride in ((3, 1), (8, 4), (4, 2)):
        found = patches(images, kernel, stride)
        expected = jax.lax.reduce_window(
            images,
            0.0,
            jax.lax.add,
            (1, kernel, kernel, 1),
            (1, stride, stride, 1),
            "VALID",
        )
        assert found.shape == (*expected.shape[:-1], kernel**2 * 3)
        np.testing.assert_allclose(found.sum(-1), expected.sum(-1), atol=1e-4)


def test_a_critic_sees_picture_and_action():
    """Of SAC with continuous actions: both matter to its values; bytes are stored."""
    spaces = Spaces(48, None, (-1.0,), (1.0,), obs_shape=(4, 4, 3), obs_dtype="uint8")
    agent = SAC(hidden_sizes=(8,), network="cnn", batch_size=3)
    agent.check(spaces)
    start = jax.jit(lambda key: agent.start(spaces, key, num_steps=5))
    state = start(jax.random.key(0))
    assert state.buffer["obs"].shape == (5, 4, 4, 3)
    assert state.buffer["obs"].dtype == np.uint8
    network, weights = jax.jit(agent.critic(spaces)), state.learner.weights.critics[0]
    pictures = np.arange(96).reshape(2, 4, 4, 3).astype(np.uint8)
    values = network(weights, pictures, np.float32([[0], [0]]))
    other = network(weights, pictures, np.float32([[1], [1]]))
    assert values.shape == (2,) and values[0] != values[1] and values[0] != other[0]
    batch = Batch(
        obs=pictures[[0, 1, 1]],
        next_obs=pictures[[1, 0, 0]],
        action=np.zeros((3, 1), np.float32),
        reward=np.ones(3, np.float32),
        bootstrap_weight=np.ones(3, np.float32),
        mask=np.ones(3, np.float32),
    )
    uniform = np.full(agent.num_draws(spaces)[1], 0.5, np.float32)
    learn = jax.jit(lambda *args: agent.learn(spaces, *args))
    learned = learn(state.learner, batch, uniform)
    assert np.isfinite(
        np.concatenate(list(map(np.ravel, jax.tree.leaves(learned))))
    ).all()

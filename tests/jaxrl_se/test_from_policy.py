"""Environments from policies, and searches that begin from agents."""

import dataclasses

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from jaxrl_se.agents import BestResponse
from jaxrl_se.from_agents import LearnedInTask, is_ahead, start_from
from jaxrl_se.obs_ranges import to_unit
from jaxrl_se.outcome import Confirmation

QUICK = jaxrl_se.Cloning(num_rows=1000, num_steps=1000)
RESPONSE = BestResponse((32,), "tanh", 2.0)


def balance(obs, key=None):
    """A hand-written controller of CartPole, which lasts 500 steps."""
    lean = obs[2] + 0.3 * obs[3] + 0.05 * obs[1] + 0.02 * obs[0]
    return (lean > 0).astype(jnp.int32)


def push(obs, key=None):
    """A controller of Pendulum's near the top; actions in [-2, 2]."""
    return jnp.clip(-8 * obs[1:2] - 2 * obs[2:], -2.0, 2.0)


@pytest.fixture(scope="module")
def cloned():
    return jaxrl_se.from_policy(balance, "CartPole-v1", 0, QUICK)


def test_the_best_response_is_as_good_as_the_policy(cloned):
    policy = jaxrl_se.train(RESPONSE, *cloned, 0, 1).policy
    returns = jaxrl_se.evaluate(policy, "CartPole-v1", 1, 32).returns
    assert np.mean(returns) > 475  # 500 at seeds 0 to 3; random play has 22.


def test_what_is_cloned_is_asked_for_where_the_policy_goes(cloned):
    env, params = cloned
    rows = envs.collect("CartPole-v1", 500, 7, balance)
    heads = env.networks()["reward"]
    unit = to_unit(params.obs_range, rows.obs)
    asked = np.argmax(heads(params.weights["reward"], unit), axis=1)
    assert np.mean(asked == rows.action) > 0.95


def test_continuous_actions_are_those_of_the_policy():
    env, params = jaxrl_se.from_policy(push, "Pendulum-v1", 0, QUICK)
    policy = jaxrl_se.train(RESPONSE, env, params, 0, 1).policy
    rows = envs.collect("Pendulum-v1", 500, 3, push)
    asked = jax.vmap(lambda obs: policy(obs, None))(jnp.asarray(rows.obs))
    assert np.mean(np.abs(np.asarray(asked) - rows.action)) < 0.2


def test_plain_python_outside_jax(cloned):
    def python(obs, key=None):
        return int(float(obs[2]) + 0.3 * float(obs[3]) > 0)

    env, params = jaxrl_se.from_policy(
        python,
        gymnasium.make("CartPole-v1"),
        0,
        jaxrl_se.Cloning(num_rows=300, num_steps=1000),
    )
    assert env == cloned[0]
    assert np.isfinite(jax.tree.leaves(params.weights)[0]).all()


def test_what_is_no_policy_or_no_shape():
    with pytest.raises(TypeError, match="policy must be"):
        jaxrl_se.from_policy(3, "CartPole-v1")
    with pytest.raises(ValueError, match="observations must be vectors"):
        jaxrl_se.from_policy(balance, gymnax.make("Catch-bsuite"))
    shape = dataclasses.replace(QUICK.proxy, initial_states="learned")
    with pytest.raises(ValueError, match="proxy must have one step, normal starts"):
        jaxrl_se.Cloning(proxy=shape)
    with pytest.raises(ValueError, match="noise"):
        jaxrl_se.Cloning(noise=2.0)


@pytest.mark.parametrize(
    ("policy", "task", "message"),
    [
        (lambda obs, key=None: 7, "CartPole-v1", "one of the integers 0 ... 1"),
        (lambda obs, key=None: jnp.zeros(3), "Pendulum-v1", r"shape \(1,\).*\(3,\)"),
        (lambda obs, key=None: obs[:1] * jnp.nan, "Pendulum-v1", "finite actions"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_policy_that_does_not_fit(policy, task, message):
    few = jaxrl_se.Cloning(num_rows=50, num_steps=1)
    with pytest.raises(ValueError, match=message):
        jaxrl_se.from_policy(policy, task, 0, few)


def found(mean, response):
    return Confirmation({"DDQN": (mean,)}, -100.0, best_response=response)


@pytest.mark.parametrize(
    "agent, mean, response, ahead",
    [
        (-12, -50, -50, True),
        (-50, -50, -48, False),
        (-47, -50, -48, False),
        (-40, -90, -30, True),  # Its best response is ahead, what it teaches is not.
        (-59, -90, -30, False),
        (-30, -120, None, True),
    ],
)
def test_an_agent_is_ahead_by_a_margin(agent, mean, response, ahead):
    learned = LearnedInTask(None, "DDQN", agent, 100, 200)
    assert is_ahead(learned, found(mean, response)) is ahead


def test_a_search_begins_from_an_agent():
    task = envs.make("CartPole-v1")
    learned = LearnedInTask(balance, "PPO", 500.0, 100, 200)
    _, config = jaxrl_se.evolution.look_at(task, jax.random.key(0), None, True)
    config, start, rows = start_from(
        learned, task, config, jax.random.key(1), real_steps=8000
    )
    assert rows == 2000 and config.restarts == 0 and config.max_steps == 8000
    assert len(config.proxy.obs_range) == 4
    _, params = config.proxy.make(*task)
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, params.weights)

"""World models: what they predict, and that all three networks are fitted."""

import jax
import numpy as np
import pytest

import envs
from benchmarks.transfer.world_model import WorldModel, errors, fit

TASK = envs.make("CartPole-v1")


@pytest.fixture(scope="module")
def fitted():
    key = jax.random.key(0)
    data = envs.collect(TASK, 3000, key)
    model, params = WorldModel.of(TASK, hidden_sizes=(32, 32))
    return model, fit(model, params, data, key, num_updates=2000, batch_size=64), data


def test_unseen_transitions_are_predicted(fitted):
    model, params, _ = fitted
    found = errors(model, params, envs.collect(TASK, 1000, key=1))
    # Measured over five seeds: at most 0.002, 0.1 and 0.01.
    assert found["next_obs_error"] < 0.02
    assert found["missed_terminations"] < 0.3
    assert found["false_terminations"] < 0.05
    assert found["reward_error"] < 1e-3


def test_an_unfitted_model_is_found_out(fitted):
    model, params, data = fitted
    fresh = model.init_weights(jax.random.key(5)) | {"scales": params.weights["scales"]}
    found = errors(model, params.replace(weights=fresh), data)
    assert found["next_obs_error"] > 0.5
    assert found["missed_terminations"] + found["false_terminations"] > 0.5


def test_steps_are_the_tasks_own(fitted):
    model, params, data = fitted
    obs, state = model.reset(jax.random.key(3), params)
    assert np.all(np.abs(obs) <= 0.05)  # the task's initial states
    rows = slice(0, 20)
    step = lambda obs, action: model.step_env(  # noqa: E731
        None, state.replace(obs=obs), action, params
    )
    next_obs, after, reward, terminated, info = jax.jit(jax.vmap(step))(
        data.obs[rows], data.action[rows]
    )
    change = data.obs[rows] - data.next_obs[rows]
    np.testing.assert_allclose(next_obs, data.next_obs[rows], atol=0.2 * np.ptp(change))
    np.testing.assert_allclose(reward, 1.0, atol=0.05)
    assert terminated.dtype == bool and info == {} and np.all(after.time == 1)
    assert params.max_steps_in_episode == TASK[1].max_steps_in_episode


def test_values_that_never_vary_do_no_harm(fitted):
    model, params, data = fitted
    still = data.replace(next_obs=data.obs, terminated=np.zeros(len(data), bool))
    key = jax.random.key(0)
    result = fit(model, params, still, key, num_updates=2, batch_size=64)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.weights))
    assert np.isnan(errors(model, result, still)["missed_terminations"])


@pytest.mark.parametrize("name", ["num_updates", "batch_size", "learning_rate"])
def test_numbers_that_are_not_positive(name, fitted):
    model, params, data = fitted
    with pytest.raises(ValueError, match=name):
        fit(model, params, data, jax.random.key(0), **{name: 0})


def test_transitions_of_another_task(fitted):
    model, params, _ = fitted
    data = envs.collect(envs.make("MountainCar-v0"), 3, key=0)
    with pytest.raises(ValueError, match="transitions"):
        fit(model, params, data, jax.random.key(0))

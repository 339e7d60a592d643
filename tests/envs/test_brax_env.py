"""Brax's environments as pairs: its own steps, the contract, a missing extra."""

import sys

import jax
import numpy as np
import pytest

import envs
from envs import brax_env

STEPS = 12
# Brax uses what the packages below it have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def task():
    pytest.importorskip("brax")
    return envs.brax("inverted_pendulum", "spring")


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "brax", None)
    monkeypatch.setitem(sys.modules, "brax.envs", None)
    brax_env._brax_envs.cache_clear()
    brax_env._made.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxrl-se\[brax\]'"):
        envs.brax("hopper")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "name must be a string that is not empty, got 3"),
        (("hopper", "bullet"), "backend must be .*got 'bullet'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        envs.brax(*arguments)


def test_what_brax_does_not_have(task):
    with pytest.raises(ValueError, match="name must be one that Brax has, got 'hop'"):
        envs.brax("hop")
    with pytest.raises(ValueError, match="options must be numbers and names"):
        envs.brax("inverted_pendulum", "spring", no_such_option=1)


def test_steps_are_braxs_own(task):
    from brax import envs as brax_envs

    env, params = task
    params = params.replace(max_steps_in_episode=5)
    actions = np.float32(np.random.default_rng(0).uniform(-1, 1, (STEPS, 1)))
    reference = brax_envs.get_environment("inverted_pendulum", backend="spring")

    @jax.jit
    def ours(key):
        obs, state = env.reset_env(key, params)

        def step(state, action):
            obs, state, reward, terminated, _ = env.step_env(key, state, action, params)
            truncated = env.is_truncated(state, params)
            return state, (obs, reward, terminated, truncated)

        return obs, jax.lax.scan(step, state, actions)[1]

    @jax.jit
    def theirs(key):
        def step(state, action):
            state = reference.step(state, action)
            return state, (state.obs, state.reward, state.done > 0)

        state = reference.reset(key)
        return state.obs, jax.lax.scan(step, state, actions)[1]

    key = jax.random.key(3)
    first, rows = ours(key)
    first_theirs, rows_theirs = theirs(key)
    np.testing.assert_array_equal(first, first_theirs)
    for a, b in zip(rows, rows_theirs, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert rows[3].tolist() == [step >= 4 for step in range(STEPS)]


def test_it_is_a_task_like_any_other(task):
    env, params = task
    assert env == envs.brax("inverted_pendulum", "spring")[0]
    assert hash(env) == hash(envs.brax("inverted_pendulum", "spring")[0])
    envs.check(env, params.replace(max_steps_in_episode=5))

"""Repeated actions: parity with a plain loop, ends of episodes, Gymnasium, errors."""

import copy

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from random_walk import RandomWalk

import envs
from envs import ActionRepeat


def by_a_loop(env, params, num_repeats, key, state, action):
    """One repeated action, in Python."""
    total, count, keys = 0.0, 0, jax.random.split(key, num_repeats)
    for step_key in keys:
        obs, state, reward, terminated, _ = env.step_env(
            step_key, state, action, params
        )
        total, count = total + float(reward), count + 1
        if terminated or env.is_truncated(state, params):
            break
    return obs, state, total, bool(terminated), count


def assert_parity(env, params, num_repeats, num_actions=12, seed=0):
    """Steps a wrapper and a loop side by side; returns repeats and flags by action."""
    wrapper = ActionRepeat(env, num_repeats)
    step = jax.jit(wrapper.step_env)
    key, reset_key = jax.random.split(jax.random.key(seed))
    obs, state = wrapper.reset(reset_key, params)
    history = []
    for i in range(num_actions):
        step_key, action_key = jax.random.split(jax.random.fold_in(key, i))
        action = env.action_space(params).sample(action_key)
        expected = by_a_loop(env, params, num_repeats, step_key, state, action)
        obs, state, reward, terminated, info = step(step_key, state, action, params)
        for found, wanted in zip(
            jax.tree.leaves((obs, state)), jax.tree.leaves(expected[:2]), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reward, expected[2], rtol=1e-5)
        assert (bool(terminated), int(info["num_repeats"])) == expected[3:]
        truncated = bool(wrapper.is_truncated(state, params))
        history.append((expected[4], bool(terminated), truncated))
        if terminated or truncated:
            break
    return history


def test_terminates_in_the_middle_of_a_repeat():
    env, params = envs.make("CartPole-v1")
    repeats = [assert_parity(env, params, 4, seed=seed)[-1] for seed in range(6)]
    assert all(terminated for _, terminated, _ in repeats)
    assert len({count for count, *_ in repeats}) > 1


def test_the_limit_is_that_of_the_task():
    env, params = envs.make("MountainCarContinuous-v0")
    params = params.replace(max_steps_in_episode=7)
    history = assert_parity(env, params, 3)
    assert history == [(3, False, False), (3, False, False), (1, False, True)]


def test_noisy_dynamics_with_dictionaries():
    """An environment of the user's own, whose numbers are weakly typed."""
    histories = [assert_parity(RandomWalk(), RandomWalk().default_params, 2)]
    assert histories[0][-1][1] or histories[0][-1][2]


def test_once_is_the_task_itself():
    assert_parity(*envs.make("Pendulum-v1"), 1, num_actions=3)


def test_autoreset_vmap_and_a_stable_carry():
    env, params = envs.make("MountainCar-v0")
    params = params.replace(max_steps_in_episode=10)
    env = ActionRepeat(env, 4)

    @jax.jit
    def run(key):
        key_reset, key_run = jax.random.split(key)

        def one(carry, key):
            obs, state, reward, _, truncated, info = env.step(
                key, carry[1], jnp.int32(2), params
            )
            return (obs, state), (reward, truncated, state.time, info["num_repeats"])

        carry = env.reset(key_reset, params)
        return jax.lax.scan(one, carry, jax.random.split(key_run, 6))[1]

    keys = jax.random.split(jax.random.key(0), 3)
    reward, truncated, time, num_repeats = jax.vmap(run)(keys)
    np.testing.assert_array_equal(num_repeats, [[4, 4, 2] * 2] * 3)
    np.testing.assert_array_equal(reward, [[-4, -4, -2] * 2] * 3)
    np.testing.assert_array_equal(truncated, [[False, False, True] * 2] * 3)
    np.testing.assert_array_equal(time, [[4, 8, 0] * 2] * 3)


def test_gymnasium():
    env, params = envs.make("CartPole-v1")
    gym_env = envs.GymnasiumEnv(
        ActionRepeat(env, 4), params.replace(max_steps_in_episode=10)
    )
    check_env(gym_env, skip_render_check=True)
    assert isinstance(gym_env.action_space, gymnasium.spaces.Discrete)
    gym_env.reset(seed=0)
    rewards = []
    for action in (0, 1, 0):
        *_, reward, terminated, truncated, info = gym_env.step(action)
        rewards.append(reward)
    assert rewards == [4.0, 4.0, 2.0]
    assert truncated and not terminated and info["num_repeats"] == 2


def test_wrappers_of_equal_tasks_are_equal():
    env, _ = envs.make("CartPole-v1")
    wrapper = ActionRepeat(env, 2)
    for twin in (ActionRepeat(type(env)(), 2), copy.deepcopy(wrapper)):
        assert twin == wrapper and hash(twin) == hash(wrapper)
    assert wrapper != ActionRepeat(env, 3)
    assert wrapper != ActionRepeat(ActionRepeat(env, 2), 1)
    assert wrapper != env
    assert wrapper.name == "CartPole-v1-repeat-2"


@pytest.mark.parametrize("num_repeats", [0, -1, 2.0, True, None])
def test_bad_numbers_of_repeats(num_repeats):
    with pytest.raises(ValueError, match="num_repeats must be an integer of at"):
        ActionRepeat(envs.make("CartPole-v1")[0], num_repeats)


def test_environments_with_a_step_of_their_own():
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(
        ValueError, match=r"env must have gymnax's own step, got LegacyEnv"
    ):
        ActionRepeat(envs.LegacyEnv(env), 2)

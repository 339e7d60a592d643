"""Noise on one output leaves all else as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.wrappers import FlattenObservationWrapper

import envs
from jaxrl_se import Spaces, SyntheticConfig
from jaxrl_se.noisy_env import NoisyEnv, NoisyParams

SPACES = Spaces(obs_size=3, num_actions=2)
ENV = SyntheticConfig(hidden_sizes=()).build(SPACES)
NUM = 4000


def play(params, env=ENV):
    """First observations `[NUM, 3]`, rewards, and the inner states' observations."""
    noisy = NoisyEnv(env)

    def one(key):
        obs, state = noisy.reset_env(key, params)
        reward = noisy.step_env(key, state, jnp.int32(0), params)[2]
        return obs, reward, state.state.obs

    return jax.device_get(
        jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), NUM))
    )


def test_noise_has_the_deviation_that_was_asked_for():
    inner = ENV.default_params
    clean_obs, clean_reward, clean_state = play(NoisyParams(params=inner))
    np.testing.assert_array_equal(clean_obs, clean_state)
    std = np.float32([0.0, 2.0, 0.0])
    obs, reward, state = play(NoisyParams(params=inner, obs_std=std, reward_std=0.5))
    np.testing.assert_array_equal(state, clean_state)
    np.testing.assert_allclose(np.std(obs - state, axis=0), std, rtol=0.05)
    # The reward is paid for the inner state, not for what was shown.
    np.testing.assert_allclose(np.std(reward - clean_reward), 0.5, rtol=0.05)
    correlation = np.corrcoef(reward - clean_reward, (obs - state)[:, 1])[0, 1]
    assert abs(correlation) < 0.05


def test_noise_is_not_fed_back():
    env = SyntheticConfig("multi-step", (), max_steps=3).build(SPACES)
    params = NoisyParams(params=env.default_params, obs_std=jnp.full(3, 10.0))
    noisy = NoisyEnv(env)
    _, state = noisy.reset_env(jax.random.key(0), params)
    shown, after, *_ = noisy.step_env(jax.random.key(1), state, 1, params)
    expected = env.step_env(None, state.state, 1, params.params)[0]
    np.testing.assert_allclose(after.state.obs, expected)
    np.testing.assert_array_equal(noisy.observe(None, after, 1, params), shown)
    assert np.any(np.abs(shown - expected) > 1)


def test_time_limits_and_spaces_are_the_inner_environments():
    env = SyntheticConfig("multi-step", (), max_steps=2).build(SPACES)
    noisy = NoisyEnv(env)
    params = NoisyParams(params=env.default_params)
    assert Spaces.of(noisy, params) == SPACES
    _, state = noisy.reset(jax.random.key(0), params)
    ends = []
    for index in range(2):
        key = jax.random.key(index)
        _, state, _, terminated, truncated, _ = noisy.step(key, state, 0, params)
        ends.append((bool(terminated), bool(truncated)))
    assert ends == [(False, False), (False, True)]


def test_equal_environments_compile_once():
    again = SyntheticConfig(hidden_sizes=()).build(SPACES)
    assert NoisyEnv(ENV) == NoisyEnv(again)
    assert hash(NoisyEnv(ENV)) == hash(NoisyEnv(again))
    assert NoisyEnv(ENV) != NoisyEnv(SyntheticConfig(hidden_sizes=(2,)).build(SPACES))


def test_a_step_of_its_own_would_be_lost():
    with pytest.raises(ValueError, match="inner environment"):
        NoisyEnv(FlattenObservationWrapper(envs.make("CartPole-v1")[0]))

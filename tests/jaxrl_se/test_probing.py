"""What random play says about a task."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import envs
from jaxrl_se.probing import Probe, probe


@pytest.fixture(scope="module")
def cartpole() -> Probe:
    return probe(envs.make("CartPole-v1"), jax.random.key(0), min_steps=16_384)


def test_random_cartpole_is_what_is_known_of_it(cartpole):
    assert cartpole.steps == 16_384
    assert cartpole.episodes >= 16
    assert 18 < cartpole.mean_length < 27
    assert cartpole.random_return == pytest.approx(cartpole.mean_length)
    assert (cartpole.reward_min, cartpole.reward_max) == (1.0, 1.0)
    assert cartpole.reward_varies  # Lengths do.
    half_widths = [(high - low) / 2 for low, high in cartpole.obs_range]
    np.testing.assert_allclose(half_widths, [0.17, 1.16, 0.19, 1.66], rtol=0.2)


def test_the_same_key_gives_the_same_probe(cartpole):
    again = probe(envs.make("CartPole-v1"), jax.random.key(0), min_steps=16_384)
    assert again == cartpole
    assert probe(envs.make("CartPole-v1"), jax.random.key(1)) != cartpole


def test_long_episodes_cost_more_steps_and_counts_are_exact():
    env, params = envs.make("SimpleEnv")
    long = probe((env, params.replace(max_steps_in_episode=200)), jax.random.key(0))
    assert long.steps == 4 * 64 * 16  # The chunk in which all sixteen end.
    assert (long.episodes, long.mean_length, long.max_length) == (16, 200, 200)
    endless = (env, params.replace(max_steps_in_episode=10**6))
    seen = probe(endless, jax.random.key(0), min_steps=1000, max_steps=3000)
    assert (seen.steps, seen.episodes) == (3072, 0)
    assert np.isnan(seen.random_return)
    assert "no episode ended" in str(seen)


class _Odd:
    """CartPole with changed observations."""

    def __init__(self, change):
        self.env, _ = gymnax.make("CartPole-v1")
        self.change = change

    def __getattr__(self, name):
        return getattr(self.env, name)

    def reset(self, key, params):
        obs, state = self.env.reset(key, params)
        return self.change(obs), state

    def step(self, *args):
        obs, *rest = self.env.step(*args)
        return self.change(obs), *rest


def test_an_observation_that_never_varies_gets_a_width():
    env = _Odd(lambda obs: obs.at[1].set(7.0))
    found = probe((env, env.default_params), jax.random.key(0))
    assert found.obs_range[1] == (6.0, 8.0)
    assert found.obs_range[0] != (-1.0, 1.0)


def test_bad_tasks_are_named():
    env = _Odd(lambda obs: obs.at[0].set(jnp.nan))
    with pytest.raises(ValueError, match="not finite"):
        probe((env, env.default_params), jax.random.key(0))
    env = _Odd(lambda obs: obs)
    endless = spaces.Box(-jnp.inf, jnp.inf, (1,))
    setattr(env, "action_space", lambda params: endless)  # noqa: B010
    with pytest.raises(ValueError, match="bounded actions"):
        probe((env, env.default_params), jax.random.key(0))
    with pytest.raises(ValueError, match="min_steps"):
        probe(envs.make("CartPole-v1"), jax.random.key(0), min_steps=0)


def test_a_probe_is_frozen(cartpole):
    with pytest.raises(dataclasses.FrozenInstanceError):
        cartpole.steps = 0

"""Resets drawn before the loop give the transitions of gymnax's own step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.stepping import draw_steps
from jaxrl_se import SyntheticConfig

G, T = 3, 40


def _cartpole():
    return *envs.make("CartPole-v1"), None


def _synthetic(variant):
    env, params = SyntheticConfig(variant=variant).make(*envs.make("CartPole-v1"))
    draw = jax.jit(jax.vmap(env.init_weights))
    weights = draw(jax.random.split(jax.random.key(5), G))
    return env, params.replace(weights=weights), env.population_axes(params)


@pytest.mark.parametrize(
    "make",
    [_cartpole, *map(lambda v: lambda: _synthetic(v), ("one-step", "multi-step"))],
    ids=["CartPole", "one-step", "multi-step"],
)
def test_equals_gymnax_step(make, key):
    env, params, axes = make()
    if axes is None:  # short episodes, so that both ends occur
        params = params.replace(max_steps_in_episode=7)
    key_reset, key_steps, key_actions = jax.random.split(key, 3)
    actions = jax.random.randint(key_actions, (T,), 0, 2)

    @partial(jax.vmap, in_axes=(axes,), axis_size=G)
    def ours(params):
        draws, step = draw_steps(env, params, key_steps, T)
        _, state = env.reset(key_reset, params)

        def one(state, xs):
            taken = step(xs[0], state, xs[1])
            return taken.state, taken

        return jax.lax.scan(one, state, (draws, actions))[1]

    @partial(jax.vmap, in_axes=(axes,), axis_size=G)
    def gymnaxs(params):
        _, state = env.reset(key_reset, params)

        def one(state, xs):
            obs, state, reward, terminated, truncated, info = env.step(
                xs[0], state, xs[1], params
            )
            next_obs = info["final_observation"]
            return state, (obs, next_obs, reward, terminated, truncated)

        keys = jax.random.split(key_steps, T)
        return jax.lax.scan(one, state, (keys, actions))[1]

    ours, gymnaxs = jax.jit(ours), jax.jit(gymnaxs)
    found, expected = ours(params), gymnaxs(params)
    found = (found.obs, found.next_obs, found.reward, found.terminated, found.truncated)
    assert np.any(expected[3] | expected[4]), "episodes end"
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_wrappers_own_step_is_called(key):
    env, params = envs.make("CartPole-v1")

    class DoubleReward(type(env)):
        def step(self, key, state, action, params=None):
            obs, state, reward, *ends = super().step(key, state, action, params)
            return obs, state, 2 * reward, *ends

    env = DoubleReward()
    draws, step = draw_steps(env, params, key, T)
    _, state = env.reset(key, params)
    assert step(draws[0], state, jnp.int32(0)).reward == 2.0

"""A family of tasks as one task, and the environment of one of its members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from jaxrl_se.config import SyntheticConfig

RANGES = {"length": (0.25, 1.0), "gravity": (5.0, 15.0)}


def finish(params):
    return params.replace(polemass_length=params.masspole * params.length)


@pytest.fixture(scope="module")
def cartpoles():
    return envs.family("CartPole-v1", RANGES, finish=finish)


def test_an_episode_is_that_of_the_task_with_its_values(cartpoles):
    env, params = cartpoles
    obs, state = env.reset(jax.random.key(3), params)
    own, own_params = envs.make("CartPole-v1")
    length, gravity = np.asarray(params.low) + (np.asarray(obs[4:]) + 1) / 2 * (
        np.asarray(params.high) - np.asarray(params.low)
    )
    own_params = finish(own_params.replace(length=length, gravity=gravity))
    for step in range(5):
        key, action = jax.random.key(step), jnp.int32(step % 2)
        expected, _, reward, *_ = own.step(key, state.inner, action, own_params)
        obs, state, got, *_ = env.step(key, state, action, params)
        np.testing.assert_allclose(obs[:4], expected, rtol=1e-5, atol=1e-7)
        assert float(got) == float(reward) == 1.0
        np.testing.assert_array_equal(obs[4:], state.values)


def test_episodes_differ_and_cover_the_ranges(cartpoles):
    env, params = cartpoles
    obs, _ = jax.vmap(env.reset, (0, None))(
        jax.random.split(jax.random.key(0), 500), params
    )
    drawn = np.asarray(obs[:, 4:])
    assert drawn.min() < -0.95 and drawn.max() > 0.95
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.15
    assert envs.check((env, params)) is None


def test_values_and_what_is_seen_are_inverse(cartpoles):
    env, params = cartpoles
    unit = env.seen(params, {"gravity": 9.8, "length": 0.5})
    member = env.member_params(params, unit)
    assert float(member.gravity) == pytest.approx(9.8)
    assert float(member.polemass_length) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="values must be of length, gravity"):
        env.seen(params, {"gravity": 9.8})


@pytest.mark.parametrize("variant", ["one-step", "multi-step"])
@pytest.mark.parametrize("hidden_sizes", [(), (8, 8)])
def test_a_member_pays_what_the_family_pays(cartpoles, variant, hidden_sizes):
    config = SyntheticConfig(
        variant=variant,
        hidden_sizes=hidden_sizes,
        initial_states="normal",
        obs_range=((-1.0, 2.0),) * 4 + ((-0.9, 0.9), (-1.0, 0.8)),
    )
    env, params = config.make(*cartpoles)
    values = jnp.array([0.3, -0.6])
    one, its = jaxrl_se.member(env, params, values)
    assert one.spaces.obs_size == 4
    obs, state = one.reset(jax.random.key(1), its)
    whole = jnp.concatenate([obs, values])
    _, expected = env.reset(jax.random.key(1), params)
    expected = expected.replace(obs=whole)
    key = jax.random.key(2)
    got = one.step_env(key, state, jnp.int32(1), its)
    want = env.step_env(key, expected, jnp.int32(1), params)
    np.testing.assert_allclose(got[2], want[2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[0], want[0][:4], rtol=1e-5, atol=1e-5)


def test_a_member_of_what_cannot_have_one():
    env, params = jaxrl_se.load("Pendulum-v1")
    with pytest.raises(ValueError, match="fewer than the 3 numbers"):
        jaxrl_se.member(env, params, [0.0, 0.0, 0.0])
    with pytest.raises(TypeError, match="env must be a synthetic environment"):
        jaxrl_se.member(*envs.make("Pendulum-v1"), [0.0])
    for values in ([9.8], [float("nan")]):
        with pytest.raises(ValueError, match="values must be"):
            jaxrl_se.member(env, params, values)
    with pytest.raises(TypeError, match=r"values must be what .*seen"):
        jaxrl_se.member(env, params, {"length": 0.5})


def test_params_of_the_family_are_none_of_a_member(cartpoles, tmp_path):
    env, params = SyntheticConfig(initial_states="normal").make(*cartpoles)
    small, _ = jaxrl_se.member(env, params, [0.0, 0.0])
    with pytest.raises(ValueError, match="params must be those of env"):
        jaxrl_se.to_line(small, params)
    with pytest.raises(ValueError, match="params must be those of env"):
        jaxrl_se.save(tmp_path / "x", small, params)


def test_a_family_needs_a_pair_with_params(cartpoles):
    with pytest.raises(TypeError, match="task must be a gymnax pair"):
        envs.family(envs.make("CartPole-v1")[0], RANGES)
    env, params = cartpoles
    with pytest.raises(ValueError, match="must be finite"):
        env.seen(params, {"length": float("nan"), "gravity": 9.8})


@pytest.mark.parametrize(
    "ranges, message",
    [
        ({"len": (0, 1)}, "must name numbers among .*length"),
        ({"length": (1, 0)}, "low below high"),
        ({"length": 1.0}, "two finite numbers"),
        ({}, "low and high of params by name"),
        ({"max_steps_in_episode": (1, 2)}, "must name numbers"),
    ],
)
def test_ranges_that_are_none(ranges, message):
    with pytest.raises(ValueError, match=message):
        envs.family("CartPole-v1", ranges)

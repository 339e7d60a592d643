"""Tasks that return single numbers as arrays, and observations of any shape."""

import re

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from odd_task import OddTask

import envs
import jaxrl_se
from envs.spaces import Spaces, action_vector
from envs.stepping import draw_steps, step

NUM_STEPS = 12


def one(obs, key):
    return jnp.int32(1)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("action", [0, 1])
def test_single_numbers_are_scalars_wherever_a_task_is_stepped(shape, action):
    env = OddTask(shape)
    params, length = env.default_params, 3 if action else 5
    draws, draw_step = draw_steps(env, params, jax.random.key(0), NUM_STEPS)
    keys = jax.random.split(jax.random.key(0), NUM_STEPS)

    def both(carry, inputs):
        draw, key = inputs
        ours = draw_step(draw, carry[0], action)
        theirs = step(env, key, carry[1], action, params)
        return (ours.state, theirs.state), (ours, theirs)

    start = env.reset(jax.random.key(0), params)[1]
    for taken in jax.lax.scan(both, (start, start), (draws, keys))[1]:
        expected = np.arange(1, NUM_STEPS + 1) % length == 0
        np.testing.assert_array_equal(taken.terminated, expected & (action == 1))
        np.testing.assert_array_equal(taken.truncated, expected & (action == 0))
        np.testing.assert_array_equal(taken.reward, np.full(NUM_STEPS, action))


@pytest.mark.parametrize(
    "wrap",
    [lambda env: env, lambda env: envs.ActionRepeat(env, 2), envs.TerminatingTimeLimit],
    ids=["itself", "ActionRepeat", "TerminatingTimeLimit"],
)
def test_they_are_played_and_collected(wrap):
    env = wrap(OddTask())
    params = env.default_params
    episodes = jaxrl_se.evaluate(one, env, params, jax.random.key(0), 2)
    assert episodes.returns.tolist() == [3, 3]
    data = envs.collect((env, params), 9, key=0, policy=one)
    assert data.reward.shape == data.obs.shape == (9,)
    assert data.reward.sum() == (9 if isinstance(env, OddTask) else data.reward.sum())
    legacy = envs.LegacyEnv(env)
    _, state = legacy.reset(jax.random.key(0), params)
    _, _, reward, done, info = legacy.step(jax.random.key(0), state, 1, params)
    assert reward.shape == done.shape == info["truncated"].shape == ()
    single = envs.GymnasiumEnv(env, params)
    single.reset(seed=0)
    obs, reward, *_ = single.step(1)
    assert obs.shape == () and reward in (1, 2)


@pytest.mark.parametrize("shape", [(2,), (0,)])
def test_what_is_no_single_number_is_refused_by_name(shape):
    env = OddTask(shape)
    message = "task 'Odd': is_truncated must be a single number, got shape "
    message += re.escape(str(shape))
    for play in (
        lambda: jaxrl_se.evaluate(one, env, env.default_params, jax.random.key(0)),
        lambda: envs.collect((env, env.default_params), 9, key=0),
    ):
        with pytest.raises(ValueError, match=message):
            play()


OBSERVATIONS = {
    "number": ((), jnp.float32),
    "vector": ((3,), jnp.float32),
    "picture": ((2, 2, 3), jnp.uint8),
    "grid": ((4, 2), jnp.int32),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_of_any_shape_become_vectors(name):
    shape, dtype = OBSERVATIONS[name]
    env = OddTask((), shape, dtype)
    params, size = env.default_params, int(np.prod(shape))
    spaces = Spaces.of(env, params)
    assert spaces.obs_shape == shape and spaces.obs_size == size
    assert spaces.obs_dtype == ("float32" if len(shape) == 1 else np.dtype(dtype).name)
    assert spaces.vectors == Spaces(size, 2)
    obs = np.arange(5 * size).reshape(5, *shape).astype(dtype)
    flat = spaces.flatten_obs(obs)
    assert flat.shape == (5, size) and flat.dtype == jnp.float32
    scale = 255 if name == "picture" else 1
    np.testing.assert_allclose(flat, obs.reshape(5, size) / scale, rtol=1e-6)
    np.testing.assert_array_equal(spaces.flatten_obs(obs[2]), flat[2])
    if shape:
        with pytest.raises(ValueError, match=r"obs must have shape \[\.\.\., "):
            spaces.flatten_obs(np.zeros((5, 7)))

    wrapped = envs.flat_observations(env, params)
    assert (wrapped is env) == (name == "vector")
    assert wrapped == envs.flat_observations(env, params, spaces)
    assert Spaces.of(wrapped, params) == spaces.vectors
    data = envs.collect((wrapped, params), 20, key=0)
    raw = envs.collect((env, params), 20, key=0)
    np.testing.assert_array_equal(data.next_obs, spaces.flatten_obs(raw.next_obs))
    np.testing.assert_array_equal(data.reward, raw.reward)


def test_tasks_of_gymnax_with_pictures_and_numbers():
    env, params = gymnax.make("Breakout-MinAtar")
    spaces = Spaces.of(env, params)
    assert spaces == Spaces(400, 3, obs_shape=(10, 10, 4))
    lake, lake_params = gymnax.make("FrozenLake-misc")
    spaces = Spaces.of(lake, lake_params)
    assert spaces == Spaces(16, 4, num_states=16, obs_shape=(), obs_dtype="int32")
    flat = envs.flat_observations(lake, lake_params)
    assert isinstance(flat.observation_space(lake_params), envs.OneHot)
    np.testing.assert_array_equal(spaces.flatten_obs(jnp.int32(3)), np.eye(16)[3])


def test_a_dict_of_observations_is_refused():
    env = OddTask()
    env.observation_space = lambda params: gymnax.environments.spaces.Dict({})
    with pytest.raises(ValueError, match=r"task 'Odd': .* one array, got the space Di"):
        Spaces.of(env, env.default_params)


def test_one_conversion_of_actions():
    np.testing.assert_array_equal(action_vector(1, 3, 0), [0, 1, 0])
    np.testing.assert_array_equal(action_vector(np.array([1]), 3, 0), [0, 1, 0])
    np.testing.assert_array_equal(action_vector(0.5, None, 1), [0.5])
    np.testing.assert_array_equal(action_vector(np.eye(2), None, 4), [1, 0, 0, 1])
    with pytest.raises(ValueError, match=r"action must be one of the integers 0 .* 2"):
        action_vector(1.0, 3, 0)
    with pytest.raises(ValueError, match=r"action must be a vector of size 2, got"):
        action_vector(np.zeros(3), None, 2)


def test_gymnasium_sees_the_observation_as_it_is():
    env = envs.GymnasiumEnv(OddTask((), (2, 2, 3), jnp.uint8))
    assert env.observation_space == gymnasium.spaces.Box(0, 9, (2, 2, 3), np.uint8)
    assert env.reset(seed=0)[0].dtype == np.uint8

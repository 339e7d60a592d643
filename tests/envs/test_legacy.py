"""Clients of gymnax 0.0.x's five-value step, which nobody here wrote."""

import copy
import pickle

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs


@pytest.fixture
def cart_pole():
    env, params = envs.make("CartPole-v1")
    return envs.LegacyEnv(env), params


def test_step_and_step_env_have_five_values_and_one_end(cart_pole, key):
    env, params = cart_pole
    _, state = env.reset(key, params)
    for time, x, expected in ((0, 0.0, False), (499, 0.0, True), (0, 2.5, True)):
        start = state.replace(time=jnp.int32(time), x=jnp.float32(x))
        obs, _, reward, done, info = env.step(key, start, 1, params)
        assert bool(done) is expected
        assert bool(info["terminated"]) is (x > 2.4)
        assert obs.shape == (4,) and reward.shape == ()
        assert (np.abs(obs).max() > 0.05) == (not expected), "resets at the end"
        _, after, _, done, _ = env.step_env(key, start, 1, params)
        assert bool(done) is expected
        assert bool(env.is_terminal(after, params)) is expected
    obs, _, _, done, _ = env.step(key, state, 1)
    assert obs.shape == (4,) and not done, "params are optional"


def test_all_else_is_the_environments_own(cart_pole):
    env, params = cart_pole
    assert env.num_actions == 2 and env.name == "CartPole-v1"
    assert env.action_space(params).n == 2
    assert env.default_params == params
    with pytest.raises(AttributeError, match="no_such_thing"):
        env.no_such_thing  # noqa: B018


@pytest.mark.parametrize("make", [envs.make, gymnax.make])
def test_copies_and_equals(make):
    wrapped, _ = make("CartPole-v1")
    env = envs.LegacyEnv(wrapped)
    for twin in (envs.LegacyEnv(wrapped), copy.copy(env), copy.deepcopy(env)):
        assert twin == env and hash(twin) == hash(env)
    assert copy.deepcopy({"env": env})["env"] == env
    assert pickle.loads(pickle.dumps(env)).num_actions == 2
    assert env != wrapped
    assert env != envs.LegacyEnv(make("Pendulum-v1")[0])


def test_copies_do_not_compile_again():
    traces = []

    class Counted(type(gymnax.make("CartPole-v1")[0])):  # hashed by identity
        def step_env(self, *args):
            traces.append(1)
            return super().step_env(*args)

    env = envs.LegacyEnv(Counted())
    _, state = env.reset(jax.random.key(0))
    step = jax.jit(
        lambda env, state: env.step(jax.random.key(0), state, 0), static_argnums=0
    )
    for twin in (env, copy.deepcopy(env), envs.LegacyEnv(env._env)):
        step(twin, state)
    assert len(traces) == 1


REJAX = {
    "DQN": {
        "num_envs": 4,
        "num_epochs": 4,
        "buffer_size": 2048,
        "fill_buffer": 256,
        "batch_size": 64,
        "target_update_freq": 100,
        "polyak": 0.0,
        "learning_rate": 1e-3,
        "exploration_fraction": 0.3,
    },
    "PPO": {
        "agent_kwargs": {"hidden_layer_sizes": (16,)},
        "num_envs": 8,
        "num_steps": 32,
        "num_minibatches": 4,
        "num_epochs": 4,
        "learning_rate": 5e-3,
    },
}


@pytest.mark.slow  # learning to a margin; README and a guide train rejax's agents
@pytest.mark.parametrize("name", REJAX)
def test_rejax_trains(name, cart_pole, key):
    rejax = pytest.importorskip("rejax")
    env, params = cart_pole
    agent = getattr(rejax, name).create(
        env=env,
        env_params=params,
        total_timesteps=4096,
        eval_freq=4096,
        skip_initial_evaluation=True,
        **REJAX[name],
    )
    _, (lengths, returns) = jax.jit(agent.train)(key)
    assert returns.shape == (1, 128)
    np.testing.assert_array_equal(lengths, returns)
    assert returns.mean() > 100  # measured: 150 to 230; a new agent gets 17


class EpisodeReturns:
    """A wrapper as purejaxrl has them: five values, the rest by ``getattr``."""

    def __init__(self, env):
        self._env = env

    def __getattr__(self, name):
        return getattr(self._env, name)

    def reset(self, key, params):
        obs, state = self._env.reset(key, params)
        return obs, (state, 0.0, 0.0)

    def step(self, key, state, action, params):
        env_state, running, finished = state
        obs, env_state, reward, done, info = self._env.step(
            key, env_state, action, params
        )
        running = running + reward
        finished = jnp.where(done, running, finished)
        info["returned_episode"] = done
        return obs, (env_state, running * (1 - done), finished), reward, done, info


def test_purejaxrl_style_loop_runs(cart_pole, key):
    env, params = cart_pole
    env = EpisodeReturns(env)

    @jax.jit
    def rollout(key):
        def env_step(carry, key):
            obs, state = carry
            action = (obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(jnp.int32)  # balances
            obs, state, reward, done, info = jax.vmap(
                env.step, in_axes=(0, 0, 0, None)
            )(jax.random.split(key, 4), state, action, params)
            return (obs, state), (reward, done, info)

        start = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, 4), params)
        return jax.lax.scan(env_step, start, jax.random.split(key, 600))

    (_, (_, _, finished)), (_, done, info) = rollout(key)
    np.testing.assert_array_equal(finished, [500] * 4)
    np.testing.assert_array_equal(done.sum(axis=0), [1] * 4)
    np.testing.assert_array_equal(info["truncated"], done)


def test_a_terminating_time_limit_is_truncation_by_another_name():
    env, params = envs.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=3)
    same = envs.TerminatingTimeLimit(env)
    assert same == envs.TerminatingTimeLimit(env) and hash(same) is not None
    key = jax.random.key(0)
    obs, state = same.reset(key, params)
    for time in range(1, 4):
        outputs = env.step(key, state, 0, params)
        obs, state, reward, terminated, truncated, info = same.step(
            key, state, 0, params
        )
        assert bool(terminated) == (time == 3) and not truncated
        assert bool(outputs[4]) == (time == 3) and not outputs[3]
        for a, b in zip(outputs[0], obs, strict=True):
            assert a == b
        assert outputs[2] == reward
        assert (outputs[5]["final_observation"] == info["final_observation"]).all()

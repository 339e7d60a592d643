"""HalfCheetah: parity with MuJoCo, physics, infos, jit, Gymnasium, a missing extra."""

import importlib
import pathlib
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import half_cheetah

NAME = "HalfCheetah-v5"
SEQUENCE = 20


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    half_cheetah._physics.cache_clear()
    half_cheetah._mjx.cache_clear()
    assert NAME in envs.available()
    envs.register("made anew", half_cheetah.make_half_cheetah)
    try:
        hint = r"pip install 'jaxrl-se\[mujoco\]'"
        with pytest.raises(ModuleNotFoundError, match=hint):
            envs.make("made anew")
    finally:
        envs.unregister("made anew")


@pytest.fixture(scope="module")
def task():
    pytest.importorskip("mujoco.mjx")
    importlib.import_module("mujoco.mjx")
    return envs.make(NAME)


@pytest.fixture(scope="module")
def step(task):
    """The one program that most of these tests compile."""
    env, params = task
    many = jax.vmap(env.step_env, (None, 0, 0, None))
    return jax.jit(lambda state, action: many(jax.random.key(0), state, action, params))


@pytest.fixture(scope="module")
def reference(task):
    """MuJoCo itself from 8 states on, `[SEQUENCE + 1, 8, 18]`, and the actions."""
    import mujoco

    folder = pathlib.Path(gymnasium.__file__).parent / "envs/mujoco/assets"
    text = (folder / "half_cheetah.xml").read_text()
    # The log file of a deprecated attribute: see the module.
    model = mujoco.MjModel.from_xml_string(text.replace('settotalmass="14"', ""))
    mujoco.mj_setTotalmass(model, 14)
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    numbers = np.random.default_rng(0)
    actions = np.float32(numbers.uniform(-1.3, 1.3, (SEQUENCE, 8, 6)))
    states = np.zeros((SEQUENCE + 1, 8, 18))
    for member in range(8):
        mujoco.mj_resetData(model, data)
        data.qpos[:] = model.qpos0 + numbers.uniform(-0.1, 0.1, 9)
        data.qvel[:] = 0.1 * numbers.normal(size=9)
        states[0, member] = np.concatenate([data.qpos, data.qvel])
        for time in range(SEQUENCE):
            data.ctrl[:] = actions[time, member]
            mujoco.mj_step(model, data, 5)
            states[time + 1, member] = np.concatenate([data.qpos, data.qvel])
    return states, actions


def state_of(columns):
    columns = np.float32(columns)
    num = len(columns)
    return half_cheetah.HalfCheetahState(
        time=np.zeros(num, np.int32),
        qpos=columns[:, :9],
        qvel=columns[:, 9:],
        qacc_warmstart=np.zeros((num, 9), np.float32),
    )


def test_parity_with_mujoco(step, reference):
    """Feet hit the ground on the way; the largest errors were 2e-4 and 4e-3."""
    states, actions = reference
    for time in range(SEQUENCE):
        obs, state, reward, terminated, info = step(
            state_of(states[time]), actions[time]
        )
        expected = states[time + 1]
        np.testing.assert_allclose(state.qpos, expected[:, :9], atol=1e-3)
        np.testing.assert_allclose(state.qvel, expected[:, 9:], atol=2e-2)
        np.testing.assert_array_equal(obs[:, :8], state.qpos[:, 1:])
        np.testing.assert_array_equal(obs[:, 8:], state.qvel)
        velocity = (expected[:, 0] - states[time][:, 0]) / 0.05
        cost = 0.1 * np.square(actions[time]).sum(axis=1)
        np.testing.assert_allclose(info["x_velocity"], velocity, atol=1e-2)
        np.testing.assert_allclose(reward, velocity - cost, atol=1e-2)
        np.testing.assert_allclose(info["reward_ctrl"], -cost, rtol=1e-5)
        np.testing.assert_allclose(info["reward_forward"], info["x_velocity"])
        np.testing.assert_array_equal(info["x_position"], state.qpos[:, 0])
        assert not np.any(terminated)
    assert set(info) == {"x_position", "x_velocity", "reward_forward", "reward_ctrl"}


def test_sequences_stay_close(step, reference):
    """Ten steps in a row: contacts amplify rounding, by 10 a second or so."""
    states, actions = reference
    state = state_of(states[0])
    for time in range(10):
        _, state, *_ = step(state, actions[time])
    np.testing.assert_allclose(state.qpos, states[10][:, :9], atol=0.01)
    assert state.time.tolist() == [10] * 8


def test_it_comes_to_rest_on_the_ground(step, task):
    env, params = task
    _, state = jax.jit(jax.vmap(env.reset_env, (0, None)))(
        jax.random.split(jax.random.key(1), 8), params
    )
    assert np.abs(state.qpos).max() <= 0.1 and np.std(state.qvel) < 0.2
    for _ in range(100):
        _, state, *_ = step(state, np.zeros((8, 6), np.float32))
    assert np.abs(state.qvel).max() < 0.05
    # The torso starts 0.7 m high and sinks a little into its springs.
    assert np.abs(state.qpos[:, 1]).max() < 0.25
    again = step(state, np.zeros((8, 6), np.float32))
    for a, b in zip(
        jax.tree.leaves(again),
        jax.tree.leaves(step(state, np.zeros((8, 6), np.float32))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)  # the same bits


def test_spaces_limit_and_equality(task):
    env, params = task
    assert env.observation_space(params).shape == (17,)
    assert env.action_space(params).shape == (6,)
    assert params.max_steps_in_episode == gymnasium.spec(NAME).max_episode_steps
    assert half_cheetah.HalfCheetah() == env
    assert hash(half_cheetah.HalfCheetah()) == hash(env)


def test_gymnasium_and_td3(task):
    """A few hundred steps of training, on both devices."""
    from jaxrl_se import TD3, evaluate, train

    env, params = task
    params = params.replace(max_steps_in_episode=50)
    agent = TD3(learning_starts=100, hidden_sizes=(32,), batch_size=32)
    result = train(agent, env, params, jax.random.key(0), 300, num_agents=2)
    assert result.episodes.tolist() == [6, 6]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.policy))
    policy = jax.tree.map(lambda leaf: leaf[0], result.policy)
    returns = evaluate(policy, env, params, jax.random.key(1), 2).returns
    assert np.isfinite(returns).all()
    gym_env = envs.GymnasiumEnv(env, params)
    obs, _ = gym_env.reset(seed=0)
    *_, info = gym_env.step(np.asarray(policy(jnp.asarray(obs))))
    assert info["x_velocity"].dtype == np.float32

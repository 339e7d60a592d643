"""Stable-Baselines3 on the Gymnasium adapter."""

import numpy as np
import pytest
from random_walk import RandomWalk

import envs

sb3 = pytest.importorskip("stable_baselines3")


def test_checker_finds_nothing_wrong():
    from stable_baselines3.common.env_checker import check_env

    for name in envs.available():
        if name == "HalfCheetah-v5":  # needs an optional extra
            continue
        check_env(envs.GymnasiumEnv(*envs.make(name)), warn=False)


def test_dqn_trains_and_sees_final_observations():
    from stable_baselines3.common.vec_env import DummyVecEnv

    env, params = envs.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=8)
    vector = DummyVecEnv([lambda: envs.GymnasiumEnv(env, params)])
    agent = sb3.DQN(
        "MlpPolicy",
        vector,
        learning_starts=50,
        policy_kwargs={"net_arch": [16]},
        seed=0,
    )
    agent.learn(400)
    buffer = agent.replay_buffer
    assert buffer.timeouts[:400].sum() > 30
    ends = np.flatnonzero(buffer.timeouts[:400, 0])
    assert np.abs(buffer.next_observations[ends, 0]).max(axis=1).min() > 0.05


def test_ppo_trains_on_an_environment_of_ones_own():
    agent = sb3.PPO(
        "MultiInputPolicy", envs.GymnasiumEnv(RandomWalk()), n_steps=64, batch_size=32
    )
    agent.learn(128)


def test_a_batch_of_copies_trains_and_ends_as_it_should():
    from stable_baselines3.common.vec_env import VecMonitor

    from envs.stable_baselines import StableBaselinesVecEnv

    env, params = envs.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=6)
    vector = StableBaselinesVecEnv(env, params, num_envs=4)
    vector.seed(0)
    first = vector.reset()
    vector.seed(0)
    np.testing.assert_array_equal(vector.reset(), first)
    for _ in range(6):
        obs, rewards, done, infos = vector.step(np.ones(4, int))
    assert done.all() and rewards.dtype == np.float32 and (rewards == 1).all()
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert np.abs(obs).max() <= 0.05
    last = np.stack([info["terminal_observation"] for info in infos])
    assert np.abs(last).max(axis=1).min() > 0.5
    assert vector.env_is_wrapped(VecMonitor) == [False] * 4

    params = params.replace(max_steps_in_episode=500)
    vector = VecMonitor(StableBaselinesVecEnv(env, params, num_envs=4))
    agent = sb3.PPO("MlpPolicy", vector, n_steps=32, batch_size=64, seed=0)
    agent.learn(256)
    assert agent.ep_info_buffer[0]["l"] > 5


def test_copies_with_infos_and_mappings_of_observations():
    from envs.stable_baselines import StableBaselinesVecEnv

    vector = StableBaselinesVecEnv(RandomWalk(), num_envs=3)
    vector.reset()
    *_, infos = vector.step(np.full(3, 2))
    assert infos[1]["cost"]["push"] == 0.5
    agent = sb3.PPO("MultiInputPolicy", vector, n_steps=16, batch_size=16)
    agent.learn(48)

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

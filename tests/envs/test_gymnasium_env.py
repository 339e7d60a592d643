"""Any gymnax pair as a gymnasium.Env."""

import warnings

import gymnasium
import gymnax
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnax.wrappers.purerl import StickyActionWrapper
from random_walk import RandomWalk

import envs

# HalfCheetah needs an optional extra and has tests of its own.
BUILT_IN = [
    name
    for name in envs.available()
    if envs.spec(name).gymnasium_id and name != "HalfCheetah-v5"
]
# What the checker says of any environment made without gymnasium.make, and of some of
# Gymnasium's own spaces.
KNOWN_NOTES = ("not having a spec", "symmetric and normalized", "infinity")


@pytest.mark.parametrize("name", [*BUILT_IN, "Catch-bsuite", "own"])
def test_passes_gymnasiums_checker(name):
    make = {"own": lambda _: (RandomWalk(), None), "Catch-bsuite": gymnax.make}
    env = envs.GymnasiumEnv(*make.get(name, envs.make)(name))
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        check_env(env)
    for note in map(str, (n.message for n in notes)):
        assert any(known in note for known in KNOWN_NOTES), note


@pytest.mark.parametrize("name", BUILT_IN)
def test_spaces_equal_gymnasiums(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = gymnasium.make(name)
    ours = envs.GymnasiumEnv(*envs.make(name))
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space


def test_episode_runs_to_its_end_and_then_needs_a_reset():
    env, params = envs.make("CartPole-v1")
    env = envs.GymnasiumEnv(env, params.replace(max_steps_in_episode=5))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    first, info = env.reset(seed=0)
    assert info == {}
    for t in range(5):
        obs, reward, terminated, truncated, _ = env.step(t % 2)
    assert (reward, terminated, truncated) == (1.0, False, True)
    assert [type(x) for x in (reward, terminated, truncated)] == [float, bool, bool]
    assert obs.dtype == np.float32 and obs.flags.writeable
    assert np.abs(obs).max() > 0.05, "the last observation, not one of a reset"
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    second, _ = env.reset()
    assert np.abs(second).max() <= 0.05 and (second != first).any()
    env.step(0)


def test_seeds_decide_everything_and_differ():
    walk = RandomWalk()

    def play(seed):
        env = envs.GymnasiumEnv(walk)
        rows = [env.reset(seed=seed)[0]["position"][0]]
        for _ in range(20):
            obs, _, terminated, truncated, _ = env.step(1)
            rows.append(obs["position"][0])
            if terminated or truncated:
                rows.append(env.reset()[0]["position"][0])
        return np.array(rows)

    np.testing.assert_array_equal(play(3), play(3))
    assert (play(3)[:10] != play(2**32 + 4)[:10]).all()
    assert (play(None)[:10] != play(None)[:10]).all()


def test_own_environment_keeps_its_observations_and_infos():
    env = envs.GymnasiumEnv(RandomWalk())
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    obs, _, _, _, info = env.step(np.int64(2))
    assert obs in env.observation_space
    assert set(info) == {"distance", "right", "cost"}
    assert type(info["distance"]) is np.float32 and type(info["right"]) is bool
    assert info["cost"]["push"] == 0.5 and info["cost"]["vector"].shape == (2,)


def test_wrappers_of_gymnax_keep_their_effect():
    """Sticky actions live in the wrapper's ``step``, not in ``step_env``."""
    env, params = envs.make("CartPole-v1")
    sticky = StickyActionWrapper(env, sticky_action_prob=1.0)
    env = envs.GymnasiumEnv(sticky, params)
    env.reset(seed=0)
    velocities = [env.step(1)[0][1] for _ in range(3)]
    assert velocities[-1] < -0.3, "the first action, 0, is replayed for ever"


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("CartPole-v1", 2),
        ("CartPole-v1", 0.5),
        ("CartPole-v1", [0]),
        ("Pendulum-v1", 0.5),
        ("Pendulum-v1", [0.5, 0.5]),
    ],
)
def test_bad_actions_are_refused(name, action):
    env = envs.GymnasiumEnv(*envs.make(name))
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match="action must be an"):
        env.step(action)


def test_continuous_actions_out_of_range_are_the_tasks_business():
    env = envs.GymnasiumEnv(*envs.make("Pendulum-v1"))
    results = []
    for torque in (2.0, 5.0):
        env.reset(seed=0)
        results.append(env.step(np.array([torque]))[0])
    np.testing.assert_array_equal(*results)


def test_equal_environments_and_all_kinds_of_actions_compile_once():
    traces = []

    class Counted(type(envs.make("CartPole-v1")[0])):
        def step_env(self, *args):
            traces.append(1)
            return super().step_env(*args)

    for action in (0, np.int64(1), np.int32(0), np.array(1), jax.numpy.int32(0)):
        env = envs.GymnasiumEnv(Counted())
        env.reset(seed=0)
        env.step(action)
        env.step(action)
    assert len(traces) == 2  # once to be looked at, once to be compiled


def test_gymnasiums_wrappers_work():
    env = gymnasium.wrappers.RecordEpisodeStatistics(
        gymnasium.wrappers.TimeLimit(envs.GymnasiumEnv(*envs.make("CartPole-v1")), 7)
    )
    env.reset(seed=0)
    for t in range(7):
        *_, truncated, info = env.step(t % 2)
    assert truncated and info["episode"]["r"] == 7


@pytest.mark.parametrize("num_values", [5, 7])
def test_environments_of_another_protocol_are_refused(num_values):
    class Other(RandomWalk):
        def step(self, *args):
            return (0,) * num_values

    with pytest.raises(ValueError, match=f"six values .* got {num_values}"):
        envs.GymnasiumEnv(Other())

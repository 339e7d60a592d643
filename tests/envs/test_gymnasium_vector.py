"""Any gymnax pair as a gymnasium.vector.VectorEnv."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from random_walk import RandomWalk

import envs

NUM_ENVS = 5


def short_pendulum():
    env, params = envs.make("Pendulum-v1")
    return env, params.replace(max_steps_in_episode=7)


TASKS = {
    "CartPole-v1": lambda: envs.make("CartPole-v1"),
    "Pendulum-v1": short_pendulum,
    "own": lambda: (RandomWalk(), None),
}


def vector_and_singles(task, mode):
    env, params = TASKS[task]()
    vector = envs.GymnasiumVectorEnv(
        env, params, num_envs=NUM_ENVS, autoreset_mode=mode
    )
    singles = SyncVectorEnv(
        [lambda: envs.GymnasiumEnv(env, params)] * NUM_ENVS, autoreset_mode=mode
    )
    return vector, singles


def assert_same(actual, expected):
    """The same values, dtypes and structure, floats up to rounding."""
    assert data_equivalence(actual, expected, exact=False), (actual, expected)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_equals_single_environments_step_for_step(task, mode):
    vector, singles = vector_and_singles(task, mode)
    assert vector.metadata["autoreset_mode"] is mode
    assert singles.metadata["autoreset_mode"] is mode
    for space in (
        "observation_space",
        "action_space",
        "single_observation_space",
        "single_action_space",
    ):
        assert getattr(vector, space) == getattr(singles, space)

    vector.action_space.seed(0)
    num_ended = 0
    for seed in (3, None, [9, 8, 7, 6, 5]):  # a second and a third start in mid-episode
        assert_same(vector.reset(seed=seed), singles.reset(seed=seed))
        for _ in range(40):
            actions = vector.action_space.sample()
            actual, expected = vector.step(actions), singles.step(actions)
            assert_same(actual, expected)
            num_ended += (actual[2] | actual[3]).sum()
    assert num_ended > 3 * NUM_ENVS


def test_final_observation_is_that_of_the_episode_that_ended():
    env, params = envs.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=4)
    vector = envs.GymnasiumVectorEnv(env, params, num_envs=2)
    vector.reset(seed=0)
    for _ in range(4):
        obs, rewards, terminations, truncations, infos = vector.step(np.ones(2, int))
    assert truncations.all() and not terminations.any()
    assert (rewards == 1).all() and rewards.dtype == np.float64
    assert obs.shape == (2, 4) and obs.dtype == np.float32 and obs.flags.writeable
    assert np.abs(obs).max() <= 0.05
    assert infos["_final_obs"].all()
    assert min(np.abs(final).max() for final in infos["final_obs"]) > 0.5


def test_copies_differ_and_seeds_decide():
    vector = envs.GymnasiumVectorEnv(*envs.make("CartPole-v1"), num_envs=8)
    obs, _ = vector.reset(seed=0)
    again, _ = vector.reset(seed=0)
    other, _ = vector.reset(seed=[None] * 8)
    np.testing.assert_array_equal(obs, again)
    assert len(np.unique(obs[:, 0])) == 8
    assert (obs != other).any(axis=1).all()


def test_gymnasiums_wrappers_work():
    vector = gymnasium.wrappers.vector.RecordEpisodeStatistics(
        envs.GymnasiumVectorEnv(*short_pendulum(), num_envs=3)
    )
    vector.reset(seed=0)
    for _ in range(7):
        *_, infos = vector.step(vector.action_space.sample())
    np.testing.assert_array_equal(infos["episode"]["l"], [7, 7, 7])


def test_bad_input_is_refused():
    env, params = envs.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"num_envs must be an integer .*1, got 0"):
        envs.GymnasiumVectorEnv(env, params, num_envs=0)
    with pytest.raises(ValueError, match="autoreset_mode must be one of"):
        envs.GymnasiumVectorEnv(env, params, autoreset_mode=AutoresetMode.DISABLED)
    envs.GymnasiumVectorEnv(env, params, autoreset_mode="NextStep")
    vector = envs.GymnasiumVectorEnv(env, params, num_envs=2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.step(np.zeros(2, int))
    with pytest.raises(ValueError, match="seed must be one seed or 2"):
        vector.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="options: reset_mask"):
        vector.reset(options={"reset_mask": np.array([True, False])})
    for seed in (-1, 2**63, [1, -1], "a", 1.5):
        with pytest.raises(ValueError, match=r"seed(\[1\])? must be"):
            vector.reset(seed=seed)
    first, _ = vector.reset(seed=[3, 2**32 + 3])
    assert not np.array_equal(*first)
    for actions in (0, [0, 1, 0], [0, 2], [0.0, 1.0]):
        with pytest.raises(gymnasium.error.InvalidAction, match="action must be an"):
            vector.step(actions)


DICT = gymnasium.spaces.Dict(
    {
        "gear": gymnasium.spaces.Discrete(2),
        "place": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
    }
)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_flattened_observations_are_shown_as_they_were(mode):
    env, params = envs.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=5)
    flat = envs.GymnasiumVectorEnv(env, params, 3, autoreset_mode=mode)
    nested = envs.GymnasiumVectorEnv(
        env, params, 3, autoreset_mode=mode, observation_space=DICT
    )
    single = envs.GymnasiumEnv(env, params, observation_space=DICT)
    assert nested.single_observation_space == DICT
    obs, _ = nested.reset(seed=0)
    vectors, _ = flat.reset(seed=0)
    one, _ = single.reset(seed=0)
    assert one in DICT
    for _ in range(7):
        np.testing.assert_array_equal(obs["gear"], vectors[:, :2].argmax(axis=1))
        np.testing.assert_array_equal(obs["place"], vectors[:, 2:])
        actions = nested.action_space.sample()
        obs, *_, infos = nested.step(actions)
        vectors, *_, expected = flat.step(actions)
        if "final_obs" in infos:
            for shown, vector in zip(
                infos["final_obs"], expected["final_obs"], strict=True
            ):
                np.testing.assert_array_equal(shown["place"], vector[2:])
    obs, *_ = single.step(1)
    assert obs in DICT
    with pytest.raises(ValueError, match="observation_space: its elements flatten to"):
        envs.GymnasiumEnv(env, params, observation_space=DICT["place"])


def test_gymnasiums_own_checks_of_its_vector_environments():
    """What Gymnasium asks of its own: spaces, seeds, dtypes, both modes."""
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        env, params = TASKS["CartPole-v1"]()
        vector = envs.GymnasiumVectorEnv(env, params, 4, autoreset_mode=mode)
        assert isinstance(vector.spec, type(None)) and vector.render_mode is None
        obs, info = vector.reset(seed=1)
        assert obs in vector.observation_space and info == {}
        batched = gymnasium.vector.utils.batch_space
        assert vector.action_space == batched(vector.single_action_space, 4)
        for _ in range(60):
            obs, rewards, terminations, truncations, _infos = vector.step(
                vector.action_space.sample()
            )
            assert obs in vector.observation_space
            assert rewards.shape == terminations.shape == truncations.shape == (4,)
            assert terminations.dtype == truncations.dtype == bool
        vector.close()

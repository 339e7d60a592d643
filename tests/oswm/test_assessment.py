"""A world model beside rows that it has not seen, as a user asks it."""

import dataclasses

import jax
import numpy as np
import pytest

import envs
import oswm


@pytest.fixture(scope="module")
def task():
    return envs.make("CartPole-v1")


@pytest.fixture(scope="module")
def model(task):
    return oswm.condition(envs.collect(task, 400, 0), model=oswm.Ridge())


def test_a_linear_task_is_known_to_a_linear_model(task, model):
    kept = envs.collect(task, 200, 1)
    found = oswm.assess(*model, kept)
    assert found.num_rows == 200
    assert found.error[:4].max() < 1e-3 and np.isnan(found.error[4])
    assert found.ends_found > 0.8 and found.ends_made_up < 0.05
    assert found.ends > 0 and abs(found.ends_expected - found.ends) < 0.3 * found.ends
    assert (found.inside[:4, 0] < found.inside[:4, 1]).all()
    assert "reward: never changes" in str(found) and "ends found" in str(found)


def test_rows_of_one_action_are_asked_about_without_a_warning(task, model, recwarn):
    always = envs.collect(task, 200, 1)
    kept = np.asarray(always.action) == 1
    always = jax.tree.map(lambda x: np.asarray(x)[kept], always)
    assert 50 < oswm.assess(*model, always).num_rows < 150
    assert not [x for x in recwarn if issubclass(x.category, UserWarning)]


def test_several_queries_at_once_are_each_as_alone(task, model):
    env, params = model
    kept = envs.collect(task, 150, 1)
    found = env.predict(params, kept.obs, kept.action)
    one = env.predict(params, kept.obs[120], kept.action[120])
    jax.tree.map(
        lambda many, one: np.testing.assert_allclose(many[120], one, atol=1e-5),
        dataclasses.replace(found, tails=None),
        dataclasses.replace(one, tails=None),
    )
    asked = kept.next_obs, kept.reward
    below = one.cdf(*(x[120] for x in asked))
    np.testing.assert_allclose(found.cdf(*asked)[120], below, atol=1e-3)
    drawn = found.sample(jax.random.key(0))
    assert [x.shape for x in drawn] == [(150, 4), (150,), (150,)]
    gap = (drawn[0] - found.next_obs_mean) / found.next_obs_std
    assert (
        0.5 < np.std(gap) < 2
        and np.abs(np.corrcoef(gap[:-1, 0], gap[1:, 0])[0, 1]) < 0.3
    )
    for obs, action, message in (
        (np.zeros(3), 1, r"obs must be of shape \(4,\), .* got \(3,\)"),
        (np.zeros(4), 7, "action must be one of the integers 0 ... 1 .* got 7"),
        (kept.obs, kept.action[:9], "action must be 150, one for each obs, got 9"),
    ):
        with pytest.raises(ValueError, match=message):
            env.predict(params, obs, action)


def test_noise_of_the_predicted_size_is_inside_as_often_as_it_should(task):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(1200, 1)).astype(np.float32)
    rows = {
        "obs": obs,
        "action": rng.uniform(-1, 1, 1200).astype(np.float32),
        "next_obs": (obs + 0.1 * rng.normal(size=obs.shape)).astype(np.float32),
        "reward": rng.normal(size=1200).astype(np.float32),
        "episode": np.arange(1200),
        "terminated": np.zeros(1200, bool),
    }
    seen, kept = (
        {k: v[part] for k, v in rows.items()} for part in (slice(600), slice(600, None))
    )
    pair = oswm.condition(seen, model=oswm.Ridge(), max_steps=10)
    found = oswm.assess(*pair, kept)
    np.testing.assert_allclose(found.inside, [[0.5, 0.9]] * 2, atol=0.06)
    np.testing.assert_allclose(found.error, 1.0, atol=0.05)
    assert np.isnan(found.ends_found) and found.ends_made_up == 0
    assert "ends found: none here; made up: 0.0%; 0 happened" in str(found)


def test_rows_of_another_task_are_refused(model):
    other = envs.collect(envs.make("MountainCar-v0"), 60, 0)
    with pytest.raises(ValueError, match="observations of size 4"):
        oswm.assess(*model, dataclasses.replace(other, action=other.action % 2))


def test_actions_are_asked_for_as_they_are_taken(model):
    env, params = model
    obs = np.zeros(4)
    by_number = env.predict(params, obs, 1)
    by_vector = env.predict(params, obs, np.float32([0, 1]))
    jax.tree.map(np.testing.assert_array_equal, by_number, by_vector)
    with pytest.raises(ValueError, match="one of the integers"):
        env.predict(params, obs, np.zeros(3, int))


def test_an_environment_is_shown_in_a_line(model):
    assert repr(model[0]) == "WorldModelEnv(Ridge, 4 observations, 2 discrete actions)"


def test_few_rows_are_said_to_be_few(task):
    with pytest.warns(UserWarning, match="20 rows are few"):
        oswm.condition(envs.collect(task, 20, 0), model=oswm.Ridge())

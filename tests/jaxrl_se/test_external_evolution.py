"""Evolution on tasks of Gymnasium's: keys, ranges, resuming, nothing set."""

import jax
import numpy as np
import pytest

import envs
from jaxrl_se import (
    EvolutionConfig,
    HorizonCurriculum,
    SyntheticConfig,
    defaults,
    evolve,
)
from jaxrl_se.agents import BestResponse
from jaxrl_se.defaults import Budget
from jaxrl_se.probing import probe

CONFIG = EvolutionConfig(
    proxy=SyntheticConfig(
        hidden_sizes=(), initial_states="normal", obs_range="running"
    ),
    agent=BestResponse(hidden_sizes=()),
    train_steps=1,
    population_size=4,
    num_seeds=2,
    horizon=HorizonCurriculum(start=3, end=9, generations=3),
    max_generations=4,
    stop_return=-1.0,  # validated only after a candidate is as good, which none is
    validation_agents=2,
    validation_episodes=1,
)


def pendulum(**options):
    return envs.external("Pendulum-v1", engine="gymnasium", time_limit=12, **options)


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def whole():
    task, played = pendulum(), []
    play = task.play

    def noting(policies, key, *args, **kwargs):
        episodes, steps = play(policies, key, *args, **kwargs)
        played.append((jax.random.key_data(key), kwargs, episodes))
        return episodes, steps

    object.__setattr__(task, "play", noting)
    result = evolve(task, CONFIG, 0, progress=False)
    return result, played


def test_candidates_meet_the_same_episodes_at_the_horizon(whole):
    result, played = whole
    assert [kwargs["time_limit"] for _, kwargs, _ in played] == [3, 5, 7, 9]
    for key, kwargs, episodes in played:
        assert kwargs["num_axes"] == 2 and episodes.returns.shape == (4, 2, 1)
        assert (episodes.lengths == kwargs["time_limit"]).all()
        assert (key == key[:1]).all() and (key[0, 0] != key[0, 1]).any()
    assert result.progress.real_steps == 4 * 2 * (3 + 5 + 7 + 9)
    assert (played[0][0] != played[1][0]).any()


def test_ranges_follow_what_policies_meet(whole):
    result, _ = whole
    low, high = np.asarray(result.params.obs_range).T
    # Cosine, sine and velocity of a pendulum that starts anywhere and hardly moves.
    assert (low < high).all() and (high - low < [2.01, 2.01, 12]).all()
    assert not np.allclose(low, [-1, -1, -8])
    task = pendulum()
    seen = []
    for limit in (3, 5, 7, 9):
        policy = result.test(jax.random.key(1), 2)[0]
        task.play(policy, 0, 1, num_axes=1, time_limit=limit)
        assert task.seen.count == 2 * limit
        seen.append(task.seen)
    merged = envs.moments.Moments()
    for part in seen:
        merged.merge(part)
    total = sum(part.mean * part.count for part in seen) / merged.count
    np.testing.assert_allclose(merged.mean, total)


def test_an_interrupted_run_resumes_to_the_same_bits(whole, tmp_path):
    def interrupt(row):
        if row["generation"] == 2:
            raise Stop

    with pytest.raises(Stop):
        evolve(pendulum(), CONFIG, 0, out=tmp_path, on_generation=interrupt)
    resumed = evolve(pendulum(), CONFIG, 0, out=tmp_path, resume=True, progress=False)
    assert resumed.progress.generation == 4
    jax.tree.map(np.testing.assert_array_equal, whole[0].params, resumed.params)
    fitness = [
        [row["fitness_mean"] for row in result.progress.rows]
        for result in (whole[0], resumed)
    ]
    assert fitness[0] == fitness[1]


def test_random_episodes_of_a_task_outside_are_probed():
    found = probe(pendulum(), jax.random.key(0), min_steps=100)
    assert found.mean_length == found.max_length == 12 and found.episodes >= 300
    assert found.steps >= 4096 and -120 < found.random_return < -30
    cosine, sine, velocity = found.obs_range
    assert cosine[0] < -0.95 and sine[1] > 0.95 and velocity[1] > 0.9
    assert found == probe(pendulum(), jax.random.key(0), min_steps=100)


@pytest.mark.slow  # `test_a_task_alone_is_enough`, outside JAX
def test_nothing_but_a_task_outside_jax(monkeypatch):
    monkeypatch.setattr(defaults, "TRAIN_STEPS", 100)
    task = envs.external("CartPole-v1", engine="gymnasium", time_limit=20)
    budget = Budget(12 * 64 * 20 + 6_000)
    result = evolve(task, key=0, budget=budget, with_agents=False, progress=False)
    assert result.confirmation is not None and result.probe is not None
    assert set(result.confirmation.returns) == {"DDQN", "PPO"}
    assert result.confirmation.best_response is not None
    played = result.progress.real_steps
    assert played == task.cost.steps and played > result.probe.steps >= 4096
    assert "CartPole-v1" in repr(result)
    is_compared = "no agent was trained in the task itself" not in repr(result)
    assert is_compared == (result.confirmation.solved_return is not None)


def test_validations_outside_are_played_and_counted():
    """One generation, which is good enough, and both validations agree."""
    config = CONFIG.replace(
        max_generations=1, num_seeds=1, stop_return=-1e3, validation_every=1
    )
    result = evolve(pendulum(), config, 0, progress=False)
    assert result.progress.solved
    assert result.progress.rows[0]["validation_mean"] > -1e3
    assert result.progress.real_steps == 4 * 3 + 2 * 2 * 12


def test_an_environment_of_gymnasium_is_a_task():
    import gymnasium

    config = CONFIG.replace(max_generations=1, num_seeds=1)
    result = evolve(gymnasium.make("Pendulum-v1"), config, 0, progress=False)
    assert result.progress.real_steps == 4 * 3

"""Environments from a log: counts, resume, results without a task, and bad logs."""

import csv
import dataclasses
import math
import types

import jax
import numpy as np
import pytest
from evolution_cases import CARTPOLE

import envs
import jaxrl_se
import oswm
from envs.spaces import Spaces
from envs.transitions import FIELDS
from jaxrl_se import (
    DDQN,
    PPO,
    BestResponse,
    LogConfig,
    defaults,
    evolution,
    evolve_from_log,
    from_log,
    log_evidence,
    unseen,
)
from jaxrl_se.from_agents import LearnedInTask
from jaxrl_se.probing import Probe

SMALL = LogConfig(
    model=oswm.Ridge(), num_worlds=2, test_agents=2, test_episodes=3, model_steps=1
)
TINY = CARTPOLE.replace(max_generations=3, stop_return=math.inf)
SPACE = envs.open_task("CartPole-v1").action_space()


@pytest.fixture(scope="module")
def log():
    return envs.collect("CartPole-v1", 300, 5)


def _evolve(log, **options):
    settings = {"evolution": TINY, "action_space": SPACE, "max_steps": 20}
    return evolve_from_log(log, SMALL, 3, progress=False, **(settings | options))


@pytest.fixture(scope="module")
def result(log):
    return _evolve(log)


def test_rows_are_the_only_real_steps(result, log):
    assert result.progress.real_steps == len(log) == result.rows
    per_generation = TINY.population_size * TINY.fitness_episodes
    assert result.progress.model_steps > 3 * per_generation
    trained = 3 * TINY.population_size * TINY.train_steps
    assert result.progress.synthetic_steps == trained
    assert all(row["real_steps"] == len(log) for row in result.progress.rows)


def test_a_log_alone_says_what_could_not_be_tested(result):
    assert result.outside is None
    text = repr(result)
    assert "300 rows" in text
    assert "never tested outside the world model" in text
    assert "in the world model" in text
    assert "Ridge, 2 of 70%" in text
    card = result.card()
    assert card["rows"] == card["real_steps"] == 300
    assert card["log_sha256"] == result.log_digest
    assert "outside" not in card


def test_the_digest_is_the_logs(result, log):
    assert result.log_digest == log_evidence.digest_of(log)
    other = dataclasses.replace(log, reward=log.reward + 1)
    assert log_evidence.digest_of(other) != result.log_digest


def test_a_last_test_counts_its_real_steps(log, monkeypatch):
    monkeypatch.setattr(unseen, "unseen_agents", lambda _: (TINY.agent,))
    monkeypatch.setattr(unseen, "TRAIN_STEPS", 40)
    env, params = envs.make("CartPole-v1")
    task = envs.open_task((env, params.replace(max_steps_in_episode=20)))
    tested = from_log._tested(_evolve(log), task, jax.random.key(3))
    assert tested.outside is not None
    taken = tested.progress.real_steps - len(log)
    # Each step pays 1.
    assert taken == 3 * round(sum(tested.outside.returns["DDQN"]), 6)
    assert "fresh agents in the task: 2 DDQN" in repr(tested)


def test_an_interrupted_run_goes_on_with_the_same_bits(result, log, tmp_path):
    def stop(row):
        if row["generation"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _evolve(log, out=tmp_path / "run", on_generation=stop)
    resumed = _evolve(log, out=tmp_path / "run", resume=True)
    jax.tree.map(
        np.testing.assert_array_equal, resumed.params.weights, result.params.weights
    )
    assert resumed.progress.steps == result.progress.steps
    other = dataclasses.replace(log, reward=log.reward * 2)
    with pytest.raises(jaxrl_se.RunFolderError):
        _evolve(other, out=tmp_path / "run", resume=True)


def test_a_log_chooses_its_evolution(log):
    known = {"terminated": None, "reward": None}
    env, params = from_log.world_of(log, SMALL, SPACE, 20, known)
    task = envs.Task("a log", env, from_log.lean(params), "model", vary=oswm.draw_world)
    found = Probe.from_transitions(log, Spaces.of(env, params))
    config = SMALL.replace(model_steps=4 * 64 * 20 * 30, fitness_episodes=4)
    chosen, proxy = from_log._chosen(task, found, config, None)
    assert [type(agent) for agent in chosen.agents] == [BestResponse, DDQN, PPO]
    # A fifth is left for agents.
    spent = 4 * (4 * 64 * 20 * 30 // 4 + found.steps) * 4 // 5
    assert chosen.max_steps == pytest.approx(spent, abs=8)
    assert chosen.fitness_episodes == 4
    assert Spaces.of(*proxy) == found.spaces and chosen.proxy.obs_range is None
    low, high = np.transpose(found.obs_range)
    np.testing.assert_allclose(proxy[1].obs_range, np.stack([low, high], 1), rtol=1e-6)
    chosen, _ = from_log._chosen(task, found, config.replace(with_agents=False), None)
    assert chosen.max_steps == pytest.approx(spent * 5 // 4, abs=8)


def test_a_mapping_is_a_log_too(result, log):
    fields = {f: np.asarray(getattr(log, f)) for f in FIELDS}
    again = _evolve(fields)
    assert again.log_digest == result.log_digest


def test_a_probe_of_rows_has_their_numbers(log):
    spaces = Spaces.of(*envs.make("CartPole-v1"))
    found = Probe.from_transitions(log, spaces)
    lengths = np.diff(np.flatnonzero(np.insert(log.terminated, 0, True)))
    assert found.steps == 300
    assert found.episodes == log.terminated.sum()
    assert found.mean_length == pytest.approx(lengths.mean())
    assert found.random_return == pytest.approx(lengths.mean())
    assert found.obs_range[2][0] == pytest.approx(np.percentile(log.obs[:, 2], 2))
    assert found.kind == "real"
    with pytest.raises(ValueError, match="must have 3 numbers"):
        Probe.from_transitions(log, dataclasses.replace(spaces, obs_size=3))


def test_lean_params_do_not_depend_on_the_number_of_rows(log):
    shapes = []
    for size in (200, 300):
        rows = jax.tree.map(lambda x, size=size: x[:size], log)
        params = oswm.condition(rows, SPACE, 20, model=oswm.Ridge())[1]
        shapes.append(jax.tree.map(np.shape, from_log.lean(params)))
    assert shapes[0] == shapes[1]


def _rows(num_rows=400, **changes):
    rng = np.random.default_rng(0)
    obs = np.cumsum(rng.normal(size=(num_rows + 1, 2)), axis=0).astype(np.float32)
    rows = envs.Transitions(
        obs=obs[:-1],
        action=rng.integers(0, 2, num_rows),
        reward=np.full(num_rows, -1.0, np.float32),
        next_obs=obs[1:],
        terminated=np.zeros(num_rows, bool),
        truncated=np.arange(num_rows) % 50 == 49,
    )
    return dataclasses.replace(rows, **changes)


def test_what_a_log_lacks_is_said_before_anything_is_fitted():
    with pytest.raises(ValueError, match="at least 50 transitions, got 20"):
        evolve_from_log(_rows(20))
    with pytest.raises(ValueError, match=r"reward never varies .* no row terminates"):
        evolve_from_log(_rows())
    with pytest.raises(ValueError, match="reward never varies"):
        jaxrl_se.solve(_rows())
    probe, task = types.SimpleNamespace(steps=5), envs.open_task("CartPole-v1")
    with pytest.raises(ValueError, match=r"^model_steps must be at least .*, got 10"):
        from_log._default(task, probe, LogConfig(model_steps=10))
    with pytest.warns(UserWarning, match="60 transitions are few"):
        log_evidence.check_log(_rows(60), reward_is_known=True)


def test_a_log_without_a_goal_is_told_from_one_with_it():
    assert not log_evidence.says_where_to_go(_rows())
    push = np.random.default_rng(1).uniform(-1, 1, 400).astype(np.float32)
    costs = _rows(action=push, reward=-0.1 * push**2)
    assert not log_evidence.says_where_to_go(costs)
    with pytest.warns(UserWarning, match="depends on the action alone"):
        log_evidence.check_log(costs)
    near = _rows(reward=-np.abs(_rows().obs[:, 0]))
    assert log_evidence.says_where_to_go(near)
    ended = _rows(terminated=np.arange(400) == 49)
    assert log_evidence.says_where_to_go(ended)
    log_evidence.check_log(ended)
    rare = _rows(reward=np.where(np.arange(400) == 7, 1.0, 0.0))
    with pytest.warns(UserWarning, match="all rewards but 1 are 0"):
        log_evidence.check_log(rare)


def test_novelty_is_the_distance_to_the_fifth_neighbour():
    line = np.arange(12, dtype=np.float32)
    line[-1] = 100.0
    rows = _rows(12, next_obs=np.stack([line, np.zeros_like(line)], axis=1))
    found = log_evidence.novelty(rows) * line.std()
    assert found[0] == pytest.approx(5.0, rel=1e-5)
    assert found[5] == pytest.approx(3.0, rel=1e-5)  # Two on each side, then one more.
    assert found[11] == pytest.approx(100.0 - 6.0, rel=1e-5)


def test_lasting_is_worth_the_limit_where_nothing_else_pays(log):
    spaces = Spaces.of(*envs.make("CartPole-v1"))
    found = Probe.from_transitions(log, spaces)
    assert log_evidence.survival_return(found, 500) == 500.0
    punished = dataclasses.replace(found, reward_min=-1.0)
    assert log_evidence.survival_return(punished, 500) is None


@pytest.fixture
def small_defaults(monkeypatch):
    """Two generations, and little training."""
    monkeypatch.setattr(defaults, "MIN_GENERATIONS", 1)
    monkeypatch.setattr(defaults, "MAX_GENERATIONS", 2)
    monkeypatch.setattr(defaults, "TRAIN_STEPS", 100)


@pytest.mark.slow  # two searches, which compile apart
@pytest.mark.usefixtures("small_defaults")
def test_few_starts_are_searched_in_twice_and_a_folder_has_both(tmp_path):
    """First from anywhere in the log; both count, a resumed one is the same."""
    few = envs.collect("CartPole-v1", 60, 5)
    assert len(oswm.conditioning.first_rows(few)) < oswm.conditioning.FEW_STARTS
    config = SMALL.replace(model_steps=100_000, with_agents=False)
    options = {"action_space": SPACE, "max_steps": 20, "progress": False}
    out = tmp_path / "run"
    result = evolve_from_log(few, config, 3, out=out, **options)
    assert (out / "run.json").exists()
    first = out / "from_anywhere"
    assert (first / "run.json").exists()
    assert result.progress.generation == 2 and result.progress.real_steps == len(few)
    # Two searches of two generations, and tests after the second alone.
    rows = [
        list(csv.DictReader((each / "metrics.csv").open())) for each in (first, out)
    ]
    spent = [int(each[-1]["model_steps"]) for each in rows]
    assert result.progress.model_steps > sum(spent)
    again = evolve_from_log(few, config, 3, out=out, resume=True, **options)
    assert again.progress.steps == result.progress.steps
    same = jax.tree.map(np.array_equal, result.params.weights, again.params.weights)
    assert all(jax.tree.leaves(same))
    half = np.asarray(result.world[1].initial_obs)[:30]
    starts = few.obs[oswm.conditioning.first_rows(few)]
    np.testing.assert_array_equal(half, np.resize(starts, half.shape))


@pytest.mark.slow  # `test_defaults` has the same in a task
@pytest.mark.usefixtures("small_defaults")
def test_a_search_begins_again_from_an_agent_in_the_model(tmp_path, monkeypatch):
    """What that took in the model counts, and none of it as a real step."""
    learned = LearnedInTask(
        lambda obs, key=None: (obs[2] > 0).astype(int), "PPO", 1e6, 50_000, 101_280
    )
    monkeypatch.setattr(evolution, "learned_in_task", lambda *_, **__: learned)
    monkeypatch.setattr(from_log, "goes_on", lambda *_: False)
    few = envs.collect("CartPole-v1", 60, 5)
    config = SMALL.replace(model_steps=100_000, with_agents=None)
    out = tmp_path / "run"
    result = evolve_from_log(
        few, config, 3, action_space=SPACE, max_steps=20, progress=False, out=out
    )
    assert (out / "from_agents" / "run.json").exists()
    assert result.progress.real_steps == len(few)
    assert result.progress.model_steps > learned.steps
    assert "trained in the world model itself: PPO, after 50,000" in repr(result)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("Acrobot-v1", "observations of Acrobot-v1, 6 numbers each, got 4"),
        ("MountainCar-v0", "observations of MountainCar-v0, 2 numbers each, got 4"),
    ],
)
def test_a_log_of_another_task_is_refused_before_it_is_fitted(log, task, message):
    with pytest.raises(ValueError, match=message):
        evolve_from_log(log, test_task=task)


def test_actions_of_another_kind_are_refused(log):
    task = envs.open_task("CartPole-v1")
    log_evidence.check_fits(log, task)
    pushes = dataclasses.replace(log, action=np.ones((len(log), 1), np.float32))
    with pytest.raises(ValueError, match="numbered actions, got actions of real"):
        log_evidence.check_fits(pushes, task)
    many = dataclasses.replace(log, action=np.full(len(log), 2, np.int32))
    with pytest.raises(
        ValueError, match=r"2 actions of CartPole-v1, 0 \.\.\. 1, got 2"
    ):
        log_evidence.check_fits(many, task)
    pendulum = envs.collect("Pendulum-v1", 20, 0)
    log_evidence.check_fits(pendulum, envs.open_task("Pendulum-v1"))
    wide = dataclasses.replace(pendulum, action=np.ones((20, 2), np.float32))
    with pytest.raises(ValueError, match="1 numbers each, got 2"):
        log_evidence.check_fits(wide, envs.open_task("Pendulum-v1"))

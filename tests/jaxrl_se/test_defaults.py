"""The recipe for tasks that nobody has set anything for."""

import dataclasses
import importlib
import math

import jax
import numpy as np
import pytest

import envs
import jaxrl_se
from envs.spaces import Spaces
from envs.steps import Steps
from jaxrl_se import defaults, evolution, met_starts, patience
from jaxrl_se.agents import DDQN, PPO, SAC, BestResponse
from jaxrl_se.config import EvolutionConfig, SyntheticConfig
from jaxrl_se.defaults import (
    GENERATIONS_WITH_AGENTS,
    Budget,
    config_with_agents,
    default_config,
)
from jaxrl_se.evolution_result import EvolutionResult
from jaxrl_se.evolution_run import Progress
from jaxrl_se.evolution_task import EvolutionTask
from jaxrl_se.from_agents import LearnedInTask
from jaxrl_se.met_starts import KEPT, ROWS, started_where_met
from jaxrl_se.outcome import Confirmation
from jaxrl_se.patience import (
    attempt_fitness,
    begins_again,
    next_index,
    stalled,
)
from jaxrl_se.policies import RandomPolicy
from jaxrl_se.probing import Probe
from jaxrl_se.rounds import whole_steps

TASKS = (
    "double_integrator",
    "cart_pole_swing_up",
    "inventory",
    "delayed_chain",
    "two_queues",
    "planar_reach",
)


def _probe(task, length=50) -> Probe:
    spaces = Spaces.of(*task)
    return Probe(
        spaces=spaces,
        obs_range=((-1.0, 2.0),) * spaces.obs_size,
        steps=4096,
        episodes=80,
        mean_length=length,
        max_length=length,
        random_return=-10.0,
        random_std=1.0,
        reward_min=-1.0,
        reward_max=0.0,
    )


@pytest.mark.parametrize(
    ("name", "first"), [("CartPole-v1", DDQN), ("Pendulum-v1", SAC)]
)
def test_agents_fit_the_actions_and_budgets_fit_the_agents(name, first):
    task = envs.make(name)
    config = default_config(task, _probe(task))
    assert [type(agent) for agent in config.agents] == [BestResponse, first, PPO]
    for agent in config.agents:
        agent.check(Spaces.of(*task))
    assert config.train_steps % config.agents[-1].iteration_steps == 0
    assert config.proxy.obs_range == ((-1.0, 2.0),) * Spaces.of(*task).obs_size
    env, params = config.proxy.make(*task)
    assert Spaces.of(env, params) == Spaces.of(*task)


def test_a_budget_decides_the_generations():
    task = envs.make("Pendulum-v1")  # 200 steps
    budget = Budget(64 * 200 * 50 + 4096)
    config = default_config(task, _probe(task), budget)
    assert config.max_steps == budget.real_steps * 4 // 5, "a fifth is for agents"
    assert [type(agent) for agent in config.scored_agents] == [BestResponse]
    with pytest.raises(ValueError, match="real_steps must be at least"):
        default_config(task, _probe(task), Budget(10_000))
    further = config_with_agents(config, task, _probe(task), 32 * 2 * 200 * 12)
    assert further.stages == (0, 8) and further.max_generations == 12
    assert further.max_steps is None
    assert [type(agent) for agent in further.scored_agents] == [BestResponse, SAC, PPO]
    further = config_with_agents(config, task, _probe(task), 10**9)
    assert further.max_generations == sum(GENERATIONS_WITH_AGENTS)


def test_short_episodes_are_played_more_often():
    task = envs.make("Pendulum-v1")
    episodes = [
        default_config(task, _probe(task, length)).fitness_episodes
        for length in (1, 9, 22, 64, 500)
    ]
    assert episodes == [8, 7, 3, 1, 1]


def test_no_generation_begins_once_the_steps_are_spent():
    """They are counted before a validation as after it, and attempts end in time."""
    config = EvolutionConfig(patience=3, restarts=5, max_generations=100)
    rows = [
        _row(i, -1.0 * (i % 2)) | {"real_steps": 600 + 100 * (i + 1), "attempt": 0}
        for i in range(40)
    ]
    assert next_index(rows[:1], config.replace(max_steps=1200)) == 1
    assert next_index(rows[:5], config.replace(max_steps=1200)) == 5
    assert next_index(rows[:6], config.replace(max_steps=1200)) is None
    validated = [*rows[:4], rows[4] | {"real_steps": 9000}]
    assert next_index(validated, config.replace(max_steps=1200)) == 5
    assert next_index([*validated, rows[5]], config.replace(max_steps=1200)) is None
    length = next(i for i in range(40) if begins_again(rows[:i], config))
    enough = rows[length - 1]["real_steps"] + 6 * 100
    # Checkpoints hold what comes of the answer as JSON, which knows no bool of NumPy's.
    assert begins_again(rows[:length], config.replace(max_steps=enough)) is True
    config = config.replace(max_steps=enough - 100)
    assert begins_again(rows[:length], config) is False


def test_steps_are_rounded_up_to_whole_iterations():
    assert whole_steps(1001, (DDQN(), PPO(num_envs=10, rollout_steps=10))) == 1100
    assert whole_steps(1000, (DDQN(), PPO(num_envs=10, rollout_steps=10))) == 1000


def test_a_rising_series_has_not_stalled_and_a_flat_one_has():
    noise = np.random.default_rng(0).normal(size=40)
    rising = np.arange(40.0) + noise
    assert not stalled(rising, 10)
    assert stalled([*rising, *(40 + noise[:20] - noise[:20].mean())], 10)
    assert stalled(-rising, 10)
    assert not stalled(rising[:19], 10)  # Too short to tell.
    assert not stalled([-200.0] * 100, 10)  # Has not begun.
    assert stalled([0.0, *[500.0] * 40], 10)


def _row(index, fitness):
    steps = {"real_steps": 0, "model_steps": 0}
    return {"index": index, "generation": index + 1, "fitness_mean": fitness} | steps


def test_a_stalled_stage_gives_way_to_the_next_one():
    config = EvolutionConfig(
        agent=(BestResponse(), DDQN()),
        algorithms="stages",
        stages=(50,),
        patience=5,
        max_generations=80,
    )
    assert next_index([], config) == 0
    rising = [_row(i, float(i)) for i in range(20)]
    assert next_index(rising, config) == 20
    flat = [*rising, *(_row(20 + i, 20.0 - i % 2) for i in range(12))]
    assert next_index(flat, config) == 50
    # What the first stage did is not held against the second.
    second = [*flat, *(_row(50 + i, float(i)) for i in range(10))]
    assert next_index(second, config) == 60
    third = [*second, *(_row(60 + i, 10.0 - i % 2) for i in range(12))]
    assert next_index(third, config) is None
    patient = config.replace(patience=None)
    assert next_index(flat, patient) == 32
    assert next_index([_row(79, 0.0)], patient) is None


def test_a_stalled_first_stage_begins_again_while_there_is_room():
    config = EvolutionConfig(
        agent=(BestResponse(), DDQN()),
        algorithms="stages",
        stages=(40,),
        patience=5,
        restarts=2,
        max_generations=60,
    )
    flat = [_row(i, 1.0 - i % 2) | {"attempt": 0} for i in range(15)]
    length = next(i for i in range(16) if begins_again(flat[:i], config))
    rows = flat[:length]
    assert length >= 10 and next_index(rows, config) == length
    assert attempt_fitness(rows, config) == pytest.approx(0.5, abs=0.11)
    assert attempt_fitness(rows[:-1], config) is None
    # The second attempt starts with a clean sheet, and ends with the stage.
    rising = [_row(i, float(i)) | {"attempt": 1} for i in range(length, 40)]
    rows += rising
    assert attempt_fitness(rows[:-1], config) is None
    assert (begins_again(rows, config), next_index(rows, config)) == (False, 40)
    assert attempt_fitness(rows, config) == 37.0
    assert attempt_fitness([*rows, _row(40, 0.0) | {"attempt": 1}], config) is None
    # There is no room for a third one.
    flat = [_row(i, 1.0 - i % 2) | {"attempt": 1} for i in range(length, 36)]
    assert not begins_again([*rows[:length], *flat], config)
    assert next_index([*rows[:length], *flat], config) == 40
    with pytest.raises(ValueError, match="restarts must be 0 without patience"):
        config.replace(patience=None)


def test_the_best_attempt_goes_on(monkeypatch, tmp_path):
    """Attempts differ, the best one's state is kept, and a stop changes nothing."""
    monkeypatch.setattr(patience, "stalled", lambda own, patience: len(own) >= 4)
    config = EvolutionConfig(
        proxy=SyntheticConfig(hidden_sizes=(), initial_states="normal"),
        agent=(BestResponse(()), DDQN()),
        algorithms="stages",
        stages=(12,),
        patience=2,
        restarts=2,
        max_generations=12,
        population_size=8,
        num_seeds=1,
        train_steps=8,
        stop_return=math.inf,  # nothing is validated
    )
    quiet = {"progress": False, "checkpoint_every": 3}
    whole = jaxrl_se.evolve("CartPole-v1", config, 1, **quiet)
    rows = whole.progress.rows
    assert [row["attempt"] for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    means = [
        np.mean([row["fitness_mean"] for row in rows[i + 2 : i + 4]]) for i in (0, 4, 8)
    ]
    alone = config.replace(restarts=0, patience=None, max_generations=4, stages=(4,))
    first = jaxrl_se.evolve("CartPole-v1", alone, 1, progress=False)
    same = jax.tree.map(np.array_equal, whole.params.weights, first.params.weights)
    assert all(jax.tree.leaves(same)) == (np.argmax(means) == 0)

    def stop(row):
        if row["generation"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jaxrl_se.evolve(
            "CartPole-v1", config, 1, out=tmp_path / "run", on_generation=stop, **quiet
        )
    again = jaxrl_se.evolve(
        "CartPole-v1", config, 1, out=tmp_path / "run", resume=True, **quiet
    )
    same = jax.tree.map(np.array_equal, whole.params.weights, again.params.weights)
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("name", TASKS)
def test_example_tasks_have_a_controller_that_beats_chance(name):
    module = importlib.import_module(f"examples.tasks.{name}")
    task = module.make()
    key = jax.random.key(0)
    env, params = task
    random = jaxrl_se.evaluate(RandomPolicy(Spaces.of(*task)), env, params, key, 32)
    good = jaxrl_se.evaluate(module.controller, env, params, key, 32)
    margin = 2 * random.returns.std() / 32**0.5
    assert good.returns.mean() > random.returns.mean() + margin
    assert (good.lengths == task[1].max_steps_in_episode).all()


def test_an_outcome_says_what_is_wrong():
    good = Confirmation({"SAC": (9.0, 10.0), "PPO": (9.5, 9.8)}, 0.0, 10.0)
    assert (good.worst_kind, good.mean, good.problem()) == ("SAC", 9.5, None)
    assert good.is_solved is None
    assert str(good).endswith("; random 0")
    alone = dataclasses.replace(good, is_compared=False)
    assert "no agent was trained in the task itself" in str(alone)
    assert str(dataclasses.replace(alone, solved_return=9.0)).endswith("; random 0")
    lost = Confirmation({"SAC": (0.1, -0.2)}, 0.0, 0.0)
    assert "no better than random" in str(lost.problem())
    as_logged = Confirmation(
        {"SAC": (92.0, 93.0)}, 94.0, 93.0, policy="logged", kind="model"
    )
    said = str(as_logged.problem())
    assert "no better than logged play (94): as it should be" in said
    assert "failed" not in said and "more model_steps" in said
    dull = Confirmation({"SAC": (5.0, 5.0)}, 0.0, 10.0)
    assert dull.closed == 0.5 and "learns less" in str(dull.problem())
    short = Confirmation({"SAC": (9.9, 9.9)}, 0.0, 10.0, solved_return=12.0)
    assert "not solved" in str(short.problem())


@pytest.fixture
def chain(monkeypatch):
    """A task of episodes of 40 steps, and few generations for it."""
    monkeypatch.setattr(defaults, "GENERATIONS_WITH_AGENTS", (2, 1))
    monkeypatch.setattr(defaults, "TRAIN_STEPS", 100)
    monkeypatch.setattr(defaults, "MAX_GENERATIONS", 25)
    return importlib.import_module("examples.tasks.delayed_chain").make()


def test_a_task_alone_is_enough(chain, capsys):
    """Probed, evolved, tested and described; steps add up."""
    result = jaxrl_se.evolve(chain, key=3, budget=Budget(200_000), with_agents=False)
    confirmed, found = result.confirmation, result.probe
    assert confirmed is not None and found is not None
    assert confirmed.best_response is not None
    assert set(confirmed.returns) == {"DDQN", "PPO"}
    assert confirmed.best_response > confirmed.random_return
    # As in the next test, without what follows the 25 generations.
    searched, tested = 25 * 64 * 2, 2 * 16 * 8 + 32
    assert result.progress.real_steps == (
        found.steps + 40 * (searched + tested + 2 * 8 * 8)
    )
    text = repr(result)
    assert "generations" in text and "fresh agents" in text
    assert "random steps" in capsys.readouterr().err
    assert result.params.starts is None, "the search alone"
    with pytest.raises(ValueError, match="start must be weights"):
        jaxrl_se.evolve(chain, result.config, start={"a": np.zeros(2)})
    with pytest.raises(ValueError, match="budget and with_agents must be None"):
        jaxrl_se.evolve(chain, result.config, budget=Budget(200_000))


def _untrained_result(task, length: int, before: Confirmation) -> EvolutionResult:
    config = default_config(task, _probe(task, length))
    env, params = config.proxy.make(*task)
    return EvolutionResult(
        env,
        params,
        config=config,
        progress=Progress(),
        compile_seconds=0.0,
        validation=None,
        test=None,  # type: ignore
        probe=_probe(task, length),
        confirmation=before,
    )


def test_starts_that_were_met_are_kept_unless_they_harm(chain, monkeypatch):
    """Rewards stay; whether agents learn as much decides, and steps count."""
    before = Confirmation({"DDQN": (0.4, 0.6)}, 0.0, 0.5)
    result = _untrained_result(chain, 40, before)
    for mean, is_kept in ((0.495, True), (0.4, False)):
        after = Confirmation({"DDQN": (mean, mean)}, 0.0, 0.5)
        monkeypatch.setattr(
            met_starts, "confirmed_by", lambda *_, found=after: (found, Steps(real=7))
        )
        opened = EvolutionTask.of(chain)
        moved = started_where_met(result, opened, jax.random.key(0))
        assert moved.progress.real_steps == ROWS + 7
        assert moved.confirmation is (after if is_kept else before)
        assert (moved.params.starts is not None) == is_kept
        assert moved.env.config.advantage == is_kept


def test_where_starts_harm_a_lower_gain_is_tried_alone(monkeypatch):
    task = importlib.import_module("examples.tasks.double_integrator").make()
    result = _untrained_result(task, 50, Confirmation({"SAC": (-9.0,)}, -400.0, -8.0))
    monkeypatch.setattr(met_starts, "lowest_gain", lambda *_: (0.5, 3))
    for means, number, gain in (([-90, -9], 2, 0.5), ([-90, -90], 2, 1.0)):
        afters = iter(Confirmation({"SAC": (mean,)}, -400.0, -8.0) for mean in means)
        monkeypatch.setattr(
            met_starts, "confirmed_by", lambda *_, a=afters: (next(a), Steps(real=7))
        )
        moved = started_where_met(result, EvolutionTask.of(task), jax.random.key(0))
        assert moved.progress.real_steps == ROWS + 3 + 7 * number
        assert moved.params.starts is None
        last, before = (r.params.weights["reward"][-1] for r in (moved, result))
        np.testing.assert_allclose(last["kernel"], gain * before["kernel"], rtol=1e-6)


@pytest.mark.slow  # stages: `test_stages_train_one_algorithm_after_the_other`
def test_a_search_goes_on_with_agents(chain, capsys, tmp_path):
    """Scored by agents that train; steps of both add up, and a folder has both."""
    task, budget, out = chain, Budget(200_000), tmp_path / "run"
    result = jaxrl_se.evolve(task, key=3, budget=budget, with_agents=True, out=out)
    confirmed, found = result.confirmation, result.probe
    assert confirmed is not None and found is not None
    assert confirmed.best_response is not None
    assert set(confirmed.returns) == {"DDQN", "PPO"}
    assert confirmed.best_response > confirmed.random_return
    # 25 generations of 64 candidates with two episodes, and 3 of 32 with two; 16 agents
    # of each kind with 8 episodes and 32 of the best response after each; two
    # validations. Then the rows to start from, and the same tests again.
    searched, tested = 25 * 64 * 2 + 3 * 32 * 2, 3 * (2 * 16 * 8 + 32)
    assert result.progress.real_steps == (
        found.steps + ROWS + 40 * (searched + tested + 2 * 2 * 8 * 8)
    )
    assert result.params.starts is None or len(result.params.starts.obs) == KEPT
    again = jaxrl_se.evolve(
        task, key=3, budget=budget, with_agents=True, out=out, resume=True
    )
    same = jax.tree.map(np.array_equal, result.params.weights, again.params.weights)
    assert all(jax.tree.leaves(same))
    assert again.progress.steps == result.progress.steps
    assert (out / "with_agents" / "run.json").exists()
    assert "scored by agents" in capsys.readouterr().err


@pytest.mark.slow  # what is ahead, and what begins: tests/jaxrl_se/test_from_policy.py
def test_a_search_begins_again_from_an_agent_that_is_ahead(chain, capsys, monkeypatch):
    """Its steps and those of the agent's rows count, and the better result is kept."""
    module = importlib.import_module("examples.tasks.delayed_chain")
    learned = LearnedInTask(module.controller, "PPO", 0.99, 50_000, 101_280)
    monkeypatch.setattr(evolution, "learned_in_task", lambda *_, **__: learned)
    alone = jaxrl_se.evolve(chain, key=3, budget=Budget(400_000), with_agents=False)
    result = jaxrl_se.evolve(chain, key=3, budget=Budget(400_000))
    assert "the search begins again from PPO's policy" in capsys.readouterr().err
    assert "trained in the task itself: PPO, after 50,000 steps: 0.99" in repr(result)
    assert result.confirmation is not None and alone.confirmation is not None
    best = result.confirmation.best_response
    assert best is not None and best > 0.8 > alone.confirmation.best_response
    steps = result.progress.real_steps - alone.progress.real_steps
    assert steps > learned.steps + 20_000

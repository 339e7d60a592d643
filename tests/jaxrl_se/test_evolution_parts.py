"""What an evolution is made of: shared programs, validations, steps, outside tasks."""

import dataclasses
import io
import math
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evolution_cases import CARTPOLE, PROBE_CONFIG
from flax import struct
from jax.core import Tracer
from probe_env import PROBES, Probe

import envs
from envs.steps import Steps
from jaxrl_runs.devices import population_mesh
from jaxrl_runs.run_folder import RunFolderError
from jaxrl_se import (
    SARSA,
    EvolutionConfig,
    FerreiraES,
    FinalReturn,
    QLearning,
    RewardConfig,
    Spaces,
    StepsToSolve,
    SyntheticConfig,
    evaluate,
    evolve,
)
from jaxrl_se.compiled import compile_together
from jaxrl_se.generation import Generation
from jaxrl_se.progress_lines import ProgressLines

REWARD_BY_ACTION = PROBES["reward by action"]
# Validated every generation, by a task without a known return.
CONFIG = PROBE_CONFIG.replace(
    max_generations=3, validation_every=2, stop_return=None, num_seeds=1
)


class Model(Probe):
    """A probe that says that it is a model."""

    task_kind = "model"


TASK = (Model(), REWARD_BY_ACTION)


@pytest.fixture(scope="module")
def unnamed():
    """A task without a threshold."""
    with pytest.warns(UserWarning, match="nothing ends the run before max_gen"):
        return TASK, evolve(TASK, CONFIG, 1)


def test_a_task_without_a_threshold_is_validated_all_the_same(unnamed):
    _, result = unnamed
    means = [row["validation_mean"] for row in result.progress.rows]
    assert np.isnan(means[0]) and np.isfinite(means[1:]).all()  # also the last one
    assert not result.progress.solved
    assert result.validation == max(means[1:])


def test_steps_are_counted_by_where_they_were_taken(unnamed):
    _, result = unnamed
    first, second, _ = result.progress.rows
    # Episodes of this task have one step; agents train for train_steps.
    assert first["real_steps"] == 0
    assert first["model_steps"] == CONFIG.population_size
    assert first["synthetic_steps"] == CONFIG.population_size * CONFIG.train_steps
    agents, episodes = CONFIG.validation_agents, CONFIG.validation_episodes
    taken = second["model_steps"] - 2 * first["model_steps"]
    assert taken == agents * episodes
    taken = second["synthetic_steps"] - 2 * first["synthetic_steps"]
    assert taken == agents * CONFIG.train_steps
    assert result.progress.steps.as_dict()["model_steps"] > second["model_steps"]


def test_one_compilation_serves_two_tasks(unnamed):
    """Params of task and proxy are arguments: another log, another context."""
    (env, params), first = unnamed
    before = len(Probe.traces)
    other = dataclasses.replace(params, constant=3.0)
    proxy = CONFIG.proxy.make(env, params)
    shifted = np.asarray(proxy[1].obs_range) * 2
    proxy = proxy[0], dataclasses.replace(proxy[1], obs_range=shifted)
    with pytest.warns(UserWarning, match="stop_return"):
        second = evolve((env, other), CONFIG, 1, proxy=proxy)
    assert len(Probe.traces) == before
    # It is the other task that agents were tested on: it pays 3 more.
    assert first.progress.rows[0]["fitness_mean"] <= 1
    assert second.progress.rows[0]["fitness_mean"] >= 2


def test_params_of_a_task_can_be_a_function_of_the_generation():
    """An opened task: a family whose members pay more from one to the next."""

    def vary(params, key, generation):
        noise = 0.1 * jax.random.uniform(key)
        return params.replace(constant=3.0 * generation + noise)

    task: Any = SimpleNamespace(
        pair=(Probe(), REWARD_BY_ACTION), kind="model", solved_return=None, vary=vary
    )
    result = evolve(task, CONFIG.replace(stop_return=math.inf), 0)
    rows = result.progress.rows
    for generation, row in enumerate(rows):
        assert abs(row["fitness_mean"] - 3 * generation) <= 1.1
        assert row["fitness_mean"] != np.round(row["fitness_mean"])
    assert rows[-1]["model_steps"] > 0 == rows[-1]["real_steps"]


def test_the_best_validated_mean_is_the_result(tmp_path):
    """Validations of a run that is interrupted and resumed count as before."""
    config = CARTPOLE.replace(stop_return=None, max_generations=4)
    task = envs.make("CartPole-v1")
    with pytest.warns(UserWarning, match="stop_return"):
        whole = evolve(task, config, 0)
        evolve(task, config.replace(max_generations=2), 0, out=tmp_path / "a")
    means = [row["validation_mean"] for row in whole.progress.rows]
    assert whole.validation == pytest.approx(max(means))
    best = int(np.argmax(means)) + 1
    with pytest.warns(UserWarning, match="stop_return"):
        until = evolve(task, config.replace(max_generations=best), 0)
    for a, b in zip(
        jax.tree.leaves(until.params.weights),
        jax.tree.leaves(whole.params.weights),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_infinity_means_no_validation(recwarn):
    config = CARTPOLE.replace(stop_return=math.inf, max_generations=1)
    result = evolve("CartPole-v1", config, 0)
    assert result.validation is None and not recwarn.list
    assert np.isnan(result.progress.rows[0]["validation_mean"])


def test_another_algorithm_is_another_run(tmp_path):
    """Both have the same fields: names of classes are part of what a run is."""
    config = EvolutionConfig(
        proxy=RewardConfig(hidden_sizes=()),
        agent=QLearning(),
        train_steps=10,
        population_size=4,
        max_generations=1,
        stop_return=math.inf,
    )
    evolve("Cliff", config, 0, out=tmp_path)
    agent = SARSA(**{f.name: getattr(config.agent, f.name) for f in _fields(SARSA)})
    with pytest.raises(RunFolderError, match=r"QLearning.*SARSA"):
        evolve("Cliff", config.replace(agent=agent), 0, out=tmp_path, resume=True)


def _fields(agent):
    return [field for field in dataclasses.fields(agent) if field.init]


@struct.dataclass
class Contrary:
    """Takes the other of two actions."""

    policy: Any

    def __call__(self, obs, key):
        return 1 - self.policy(obs, key)


class Opposite(FinalReturn):
    """A user's rule, which tests something else than the greedy policy."""

    def policy(self, agent, spaces, weights):
        return Contrary(agent.policy(spaces, weights))


class Engine:
    """CartPole behind a wall: it takes policies and gives numbers, no program."""

    name: str = "Engine"
    solved_return: float | None = None
    kind: Any = "real"
    is_external, digest = True, "cartpole behind a wall"
    spaces = Spaces(4, 2)

    def __init__(self):
        self.pair = envs.make("CartPole-v1")
        self.calls = []

    def observation_space(self, params=None):
        return self.pair[0].observation_space(self.pair[1])

    def play(self, policies, key, num_episodes, *, num_axes):
        leaves, structure = jax.tree.flatten(policies)
        assert not any(isinstance(leaf, Tracer) for leaf in leaves)
        batch = leaves[0].shape[:num_axes]
        key = key.reshape(-1)[0]
        flat = [np.reshape(x, (-1, *np.shape(x)[len(batch) :])) for x in leaves]
        found = [
            evaluate(
                jax.tree.unflatten(structure, [leaf[i] for leaf in flat]),
                *self.pair,
                key,
                num_episodes,
            )
            for i in range(len(flat[0]))
        ]
        self.calls.append((batch, num_episodes))
        returns, lengths = (
            np.reshape([getattr(x, name) for x in found], (*batch, num_episodes))
            for name in ("returns", "lengths")
        )
        taken = Steps(real=int(lengths.sum()))
        return SimpleNamespace(returns=returns, lengths=lengths), taken


@pytest.mark.slow  # `test_external_evolution`, which validates too
def test_a_task_outside_jax(tmp_path):
    engine, config = Engine(), CARTPOLE.replace(stop_return=9.0, max_generations=2)
    result = evolve(engine, config, 0, out=tmp_path)
    row = result.progress.rows[0]
    assert engine.calls[0] == ((4, 1), 1)
    assert engine.calls[1] == ((2,), 2)  # a validation
    assert result.progress.solved and row["validation_mean"] >= 9
    agents = config.population_size + 2 * config.validation_agents
    assert row["synthetic_steps"] == agents * config.train_steps
    played = 4 * row["fitness_mean"]
    assert row["real_steps"] > played >= 32
    policies, episodes = result.test(jax.random.key(0), 2)
    assert episodes.returns.shape == (2, 2) and jax.tree.leaves(policies)
    # The same programs inside JAX: agents of the first generation are the same ones.
    inside = evolve("CartPole-v1", config.replace(max_generations=1), 0)
    spent = [x.progress.rows[0]["synthetic_steps"] for x in (inside, result)]
    assert spent[0] == spent[1]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"scoring": StepsToSolve(solved_return=1.0)},
            "scoring must test agents after",
        ),
        ({"proxy": RewardConfig()}, "task must be one of envs.external where"),
        ({"proxy": SyntheticConfig(initial_states="target")}, "initial_states must be"),
    ],
)
def test_what_an_outside_task_cannot_do(changes, match):
    with pytest.raises(ValueError, match=match):
        evolve(Engine(), CARTPOLE.replace(**changes), 0)


def test_a_rule_of_ones_own_chooses_the_policy():
    """The task pays 1 for one action and -1 for the other."""
    fitness = []
    for scoring in (Opposite(), FinalReturn()):
        config = CONFIG.replace(scoring=scoring)
        program, params = Generation.build(
            TASK, config.proxy.make(*TASK), config, population_mesh()
        )
        state = program.init(jax.random.key(0))
        arguments = jax.random.key(1), state, jnp.int32(0), params
        (step,) = compile_together(program, [("step", arguments)])
        _, log = step(*arguments)
        fitness.append(np.asarray(log.fitness))
    np.testing.assert_array_equal(fitness[0], -fitness[1])
    assert np.abs(fitness[0]).max() == 1


def test_the_strategy_is_exported():
    assert FerreiraES().candidates_per_noise == 3


def test_the_time_that_is_left_ends_with_the_steps_too():
    config = EvolutionConfig(max_generations=3000, max_steps=1000)
    lines = ProgressLines(config, io.StringIO())
    row = {"fitness_best": 1.0, "fitness_mean": 0.0, "validation_mean": math.nan}
    lines(row | {"generation": 1, "seconds": 90.0, "real_steps": 100})
    assert "left" not in lines.line(
        row | {"generation": 1, "seconds": 90.0, "real_steps": 100}
    )
    lines(row | {"generation": 2, "seconds": 92.0, "real_steps": 200})
    assert lines.seconds_left() == pytest.approx(16.0)  # 800 steps, 50 a second
    lines(row | {"generation": 3, "seconds": 94.0, "real_steps": 200})
    assert lines.seconds_left() == pytest.approx(32.0)

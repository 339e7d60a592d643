"""Evolution end to end: bits, failures, stopping, counting, platforms, bad input."""

import dataclasses
import math
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from evolution_cases import CARTPOLE, PROBE_CONFIG, PROBE_TASK
from probe_env import Probe

import envs
import jaxrl_se
from jaxrl_runs.devices import population_mesh
from jaxrl_runs.run_folder import RunFolderError
from jaxrl_se import DDQN, EvolutionConfig, OneStepEnv, SyntheticConfig, evolve
from jaxrl_se.compiled import compile_together
from jaxrl_se.generation import Generation


def weights(result):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result.params.weights)]


def bits(result):
    """Everything of a result but times."""
    progress = dataclasses.asdict(result.progress)
    rows = progress.pop("rows")
    kept = {k: v for k, v in progress.items() if "seconds" not in k}
    kept_rows = [{k: v for k, v in r.items() if "seconds" not in k} for r in rows]
    return [x.tobytes() for x in weights(result)], repr(kept), repr(kept_rows)


@pytest.fixture(scope="module")
def cartpole():
    """A run of four generations that nothing disturbs."""
    return evolve("CartPole-v1", CARTPOLE, key=0)


@pytest.fixture(scope="module")
def probe():
    """A run on a user's own task, with what was seen after each generation."""
    seen = []

    def on_generation(row):
        seen.append((row, len(Probe.traces)))

    result = evolve(PROBE_TASK, PROBE_CONFIG, key=2, on_generation=on_generation)
    return result, seen


def test_the_result_is_an_environment_that_agents_train_in(cartpole):
    result = cartpole
    assert isinstance(result.env, OneStepEnv)
    assert result.config == CARTPOLE.replace(stop_return=475.0)
    progress = result.progress
    assert (progress.generation, progress.solved) == (4, False)
    assert progress.failed_candidates == 0 and progress.cpu_seconds > 0
    assert all(np.isfinite(x).all() for x in weights(result))
    rows = progress.rows
    assert [row["generation"] for row in rows] == [1, 2, 3, 4]
    for before, row in zip([None, *rows], rows, strict=False):
        assert 8 <= row["fitness_mean"] <= row["fitness_best"] <= 500
        # One episode for each of four candidates, and CartPole pays 1 per step.
        spent = row["real_steps"] - (before["real_steps"] if before else 0)
        assert spent == 4 * row["fitness_mean"]
        assert np.isnan(row["validation_mean"])  # no candidate was near 475
    assert progress.real_steps == rows[-1]["real_steps"]


def test_one_agent_trains_in_the_result_of_many_devices(cartpole):
    agent, key = CARTPOLE.agent, jax.random.key(0)
    policy = jaxrl_se.train(agent, cartpole.env, cartpole.params, key, 40).policy
    assert jaxrl_se.evaluate(policy, *envs.make("CartPole-v1"), key, 1).lengths > 0


def test_agents_of_the_final_test_are_independent(cartpole):
    task_params = envs.make("CartPole-v1")[1].replace(max_steps_in_episode=9)
    policies, episodes = cartpole.test(jax.random.key(1), 3)
    assert episodes.returns.shape == (3, 2)
    kernel = policies.weights[0]["kernel"]
    assert kernel.shape == (3, 4, 8)
    assert len({x.tobytes() for x in np.asarray(kernel)}) == 3
    assert not np.array_equal(episodes.lengths[0], episodes.lengths[1])
    _, short = cartpole.test(jax.random.key(1), 3, task_params)
    np.testing.assert_array_equal(short.lengths, np.minimum(episodes.lengths, 9))


def test_another_seed_is_another_run(cartpole):
    other = evolve("CartPole-v1", CARTPOLE.replace(max_generations=1), key=1)
    assert other.progress.rows[0] != cartpole.progress.rows[0]
    for a, b in zip(weights(other), weights(cartpole), strict=True):
        assert not np.array_equal(a, b)


def test_interrupted_and_resumed_has_the_same_bits(cartpole, tmp_path, capfd):
    """Ctrl-C after two of four generations saves, though no checkpoint was due."""

    def interrupt(row):
        if row["generation"] == 2:
            signal.raise_signal(signal.SIGINT)

    run = {"task": "CartPole-v1", "config": CARTPOLE, "out": tmp_path / "run"}
    # A job that was started in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            evolve(**run, checkpoint_every=100, on_generation=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    metrics = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(metrics) == 3

    with pytest.raises(RunFolderError, match="already holds a run"):
        evolve(**run)
    with pytest.raises(RunFolderError, match=r"evolution.std: 0.5 there, 0.25"):
        evolve(**run | {"config": CARTPOLE.replace(std=0.25)}, resume=True)
    for other in ({"key": 1}, {"task": "CartPole-v0"}):  # v0 differs by its params
        with pytest.raises(RunFolderError, match="another configuration"):
            evolve(**run | other, resume=True)

    seen = []
    resumed = evolve(**run, resume=True, on_generation=seen.append)
    assert [row["generation"] for row in seen] == [3, 4]
    assert bits(resumed) == bits(cartpole)
    metrics = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in metrics] == ["generation", *"1234"]

    again = evolve(**run, resume=True, on_generation=seen.append)  # it is finished
    assert len(seen) == 2 and bits(again) == bits(cartpole)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow  # `test_any_damaged_file_is_survived`, and the test above resumes
def test_killed_in_the_middle_of_a_checkpoint(cartpole, tmp_path):
    """`kill -9` as the third checkpoint is being written."""
    out = tmp_path / "run"
    code = f"""
import os, signal, sys, threading, time
sys.path[:0] = {[str(Path(__file__).parent), str(Path(jaxrl_se.__file__).parents[1])]}
from evolution_cases import CARTPOLE
from jaxrl_se import evolve

def kill():
    while not any(p.startswith("3") for p in os.listdir({str(out)!r} + "/checkpoints")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

def watch(row):
    if row["generation"] == 2:
        sys.setswitchinterval(1e-5)
        threading.Thread(target=kill, daemon=True).start()
        time.sleep(0.2)

evolve("CartPole-v1", CARTPOLE, out={str(out)!r}, checkpoint_every=1,
       on_generation=watch)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert process.stdout == process.stderr == b""
    seen = []
    resumed = evolve(
        "CartPole-v1", CARTPOLE, out=out, resume=True, on_generation=seen.append
    )
    assert seen[0]["generation"] in (3, 4)  # at most one generation was lost
    assert bits(resumed) == bits(cartpole)


def test_failing_candidates_rank_last_and_are_counted(probe):
    result, seen = probe
    rows = [row for row, _ in seen]
    assert rows == result.progress.rows
    failed = [row["failed_candidates"] for row in rows]
    assert result.progress.failed_candidates == sum(failed) > 0
    # Those that do not fail earn 1: evolution has to learn from failures alone.
    assert result.progress.solved and failed[-1] < failed[0]
    assert all(np.isfinite(x).all() for x in weights(result))


def test_one_trace_for_all_generations(probe):
    result, seen = probe
    assert len(seen) > 1 and len({num_traces for _, num_traces in seen}) == 1
    before = len(Probe.traces)
    result.test(jax.random.key(0), 3)
    assert len(Probe.traces) == before


def test_it_stops_after_two_good_validations(probe):
    result, seen = probe
    rows = [row for row, _ in seen]
    config, spent = result.config, 0
    for row in rows:
        is_due = row["generation"] % config.validation_every == 0
        is_last = row is rows[-1]
        assert is_last == (is_due and row["validation_mean"] >= config.stop_return)
        # Each episode of this task is one step long: fitness, then validations.
        steps = row["real_steps"] - spent
        spent = row["real_steps"]
        fitness = config.population_size * config.num_seeds * config.fitness_episodes
        validation = config.validation_agents * config.validation_episodes
        if not (is_due and row["fitness_best"] >= config.stop_return):
            assert steps == fitness and np.isnan(row["validation_mean"])
        elif is_last:
            assert steps == fitness + 2 * validation
        else:
            assert steps in (fitness + validation, fitness + 2 * validation)
    assert len(rows) < config.max_generations


def test_one_device_equals_two():
    """The population is sharded; who computes a candidate does not matter."""
    assert jax.local_device_count() == 2
    proxy = PROBE_CONFIG.proxy.make(*PROBE_TASK)
    outcomes = []
    for devices in (jax.devices()[:1], jax.devices()):
        mesh = population_mesh(devices)
        program, params = Generation.build(PROBE_TASK, proxy, PROBE_CONFIG, mesh)
        state = program.init(jax.random.key(0))
        wanted = "step", (jax.random.key(0), state, np.int32(0), params)
        (step,) = compile_together(program, [wanted])  # for both is there already
        for i in range(3):
            state, log = step(jax.random.key(i), state, np.int32(i), params)
            outcomes.append((log.fitness, log.steps))
        outcomes.append(program.strategy.mean(state))
    one, two = outcomes[:4], outcomes[4:]
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_generation_in_which_all_fail(recwarn):
    class Broken(OneStepEnv):
        def init_weights(self, key):
            return jax.tree.map(lambda x: x * np.nan, super().init_weights(key))

    spaces = jaxrl_se.Spaces.of(*PROBE_TASK)
    config = SyntheticConfig(hidden_sizes=())
    env, params = Broken(config, spaces), config.build(spaces).default_params
    result = evolve(
        PROBE_TASK,
        PROBE_CONFIG.replace(max_generations=2, stop_return=math.inf),
        proxy=(env, params),
    )
    assert result.progress.failed_candidates == 2 * PROBE_CONFIG.population_size
    assert not result.progress.solved
    (warning,) = recwarn.list  # Ours, once, and none of NumPy's.
    assert "fitnesses of generation 1 are NaN" in str(warning.message)


@pytest.mark.parametrize(
    "name",
    [
        "step",  # whose operations are those of the others: agents train and are tested
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("validate", "train", "evaluate")
        ),
    ],
)
def test_entry_points_lower_for_all_platforms(name):
    task = envs.make("CartPole-v1")
    proxy = SyntheticConfig("multi-step", (4,), learn_termination=True)
    config = CARTPOLE.replace(proxy=proxy)
    env, params = config.proxy.make(*task)
    program, arguments = Generation.build(
        task, (env, params), config, population_mesh()
    )
    key = jax.random.key(0)
    state = jax.eval_shape(program.init, key)
    policy = jax.eval_shape(
        lambda key: jaxrl_se.train(config.agent, env, params, key, 40).policy, key
    )
    keys = jax.eval_shape(lambda key: jax.random.split(key, 2), key)
    fn, arguments = {
        "step": (program.step, (key, state, np.int32(0), arguments)),
        "validate": (program.validate, (keys, params.weights, arguments)),
        "train": (
            lambda key, params: jaxrl_se.train(config.agent, env, params, key, 40),
            (key, params),
        ),
        "evaluate": (
            lambda policy, key: jaxrl_se.evaluate(policy, *task, key),
            (policy, key),
        ),
    }[name]
    exported = jax.export.export(
        jax.jit(lambda *args: jax.tree.leaves(fn(*args))),
        platforms=("cpu", "cuda", "tpu"),
    )(*arguments)
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "CartPole-v9"}, "unknown task 'CartPole-v9'; did you mean 'CartPole"),
        ({"task": "Pendulum-v1"}, "task: DDQN needs discrete actions"),
        ({"population_size": 5}, r"population_size must be divisible .*\(2\), got 5"),
        ({"population_size": 12, "group_size": 4}, "group_size must divide the 6"),
        (
            {"checkpoint_every": 0},
            "checkpoint_every must be an integer of at least 1, got 0",
        ),
        ({"key": "seed"}, "key must be a seed .*or one PRNG key .*got 'seed'"),
        ({"activation": "rleu"}, "activation must be one of"),
        ({"proxy": "other"}, "proxy: its spaces differ from the task's"),
    ],
)
def test_bad_arguments_are_named_before_compilation(arguments, message, monkeypatch):
    def fail(*args):
        raise AssertionError("the work began")

    monkeypatch.setattr(Generation, "init", fail)
    fields = {"task": "CartPole-v1", "config": CARTPOLE} | {
        k: v
        for k, v in arguments.items()
        if k in ("task", "key", "checkpoint_every", "proxy")
    }
    if "proxy" in arguments:
        fields["proxy"] = SyntheticConfig().make(*envs.make("Acrobot-v1"))
    changes = {k: v for k, v in arguments.items() if k.endswith("size")}
    with pytest.raises(ValueError, match=message):
        if "activation" in arguments:
            changes["agent"] = DDQN(activation=arguments["activation"])
        fields["config"] = CARTPOLE.replace(**changes)
        evolve(**fields)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("train_steps", (0, -1)),
        ("num_seeds", (0, -1)),
        ("fitness_episodes", (0, -1)),
        ("max_generations", (0, -1)),
        ("validation_every", (0, -1)),
        ("validation_agents", (0, -1)),
        ("validation_episodes", (0, -1)),
        ("std", (0.0, -1.0, float("nan"))),
        ("strategy_learning_rate", (0.0, -1.0, float("nan"))),
    ],
)
def test_budgets_must_be_positive(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"{name} must be .*got {value}"):
            EvolutionConfig(**{name: value})


def test_group_sizes():
    """Sixteen candidates at a time on a CPU, all at once on an accelerator."""
    config = EvolutionConfig()
    for num_local, expected in ((64, 16), (16, 16), (24, 12), (17, 1), (3, 3)):
        assert config.group_of(num_local, accelerator=False) == expected
        assert config.group_of(num_local, accelerator=True) == num_local
    assert config.replace(group_size=4).group_of(8, accelerator=True) == 4

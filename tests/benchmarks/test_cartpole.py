"""The CartPole command, with budgets of a few seconds."""

import csv
import json
import subprocess
import sys
import warnings

import pytest

import jaxrl_se
from benchmarks.shared import runtime
from benchmarks.synthetic import cartpole
from benchmarks.synthetic.benchmark import Benchmark, Options, run
from benchmarks.synthetic.cartpole import CARTPOLE

TINY = Benchmark(
    module=CARTPOLE.module,
    task=CARTPOLE.task,
    easier=CARTPOLE.easier,
    configs={
        name: config.replace(train_steps=20, validation_agents=4, validation_episodes=2)
        for name, config in CARTPOLE.configs.items()
    },
    curve_steps=100,
)

SUMMARY_FIELDS = {
    *("seed", "variant", "strategy", "generations", "params_sha256", "evolve_seconds"),
    *("evolve_cpu_seconds", "compile_seconds", "real_steps_spent", "agents"),
    *("return_mean", "return_iqm", "return_ci95", "return_p10", "fraction_solved"),
    *("gymnasium_return_mean", "v0_return_mean", "steps_to_solve_synthetic"),
    *("steps_to_solve_real", "step_speedup"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    options = Options(
        generations=3, population=4, agents=6, curve_agents=2, out=out, cache=False
    )
    run(TINY, options)
    return out, options


def test_writes_everything(finished):
    out, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_FIELDS
    assert summary["generations"] == 3 and summary["agents"] == 6
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert [int(row["generation"]) for row in rows] == [1, 2, 3]
    assert summary["real_steps_spent"] == int(rows[-1]["real_steps"]) > 0
    assert (out / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert any((out / "checkpoints").iterdir())
    assert "10 evolved numbers" in (out / "card.md").read_text()
    env, params = jaxrl_se.load(out / "synthetic_env.npz")
    assert env.variant == "one-step" and params.weights is not None


def test_resuming_a_finished_run_returns_its_summary(finished, capsys):
    out, options = finished
    before = (out / "summary.json").stat().st_mtime_ns
    run(TINY, Options(**{**vars(options), "resume": True}))
    assert (out / "summary.json").stat().st_mtime_ns == before
    assert "finished" in capsys.readouterr().out


def test_a_folder_with_another_run_is_left_alone(finished):
    _, options = finished
    with pytest.raises(jaxrl_se.RunFolderError, match="already holds a run"):
        run(TINY, options)
    with pytest.raises(jaxrl_se.RunFolderError, match="another configuration"):
        run(TINY, Options(**{**vars(options), "resume": True, "seed": 1}))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--strategy", "sness"], "did you mean 'snes'"),
        (["--variant", "two-step"], "variant"),
        (["--resume"], "--resume needs --out"),
        (["--strategy", "openai-es", "--population", "31"], "population_size"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, named, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cartpole", "--no-cache", *arguments])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit) as ended:
        runtime.run(cartpole.main)
    assert ended.value.code == 2
    assert named in "".join(capsys.readouterr())


@pytest.mark.slow  # the test above, in a process of its own
def test_the_command_ends_with_one_clear_line():
    command = [sys.executable, "-m", "benchmarks.cartpole", "--agents", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert "--agents" in done.stderr
    assert "Traceback" not in done.stderr


def test_lists_the_benchmarks():
    command = [sys.executable, "-m", "benchmarks"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert "python -m benchmarks.cartpole" in done.stdout
    assert "python -m benchmarks.throughput" in done.stdout

"""The standard picture, drawn from results that no evolution is needed for."""

import dataclasses

import pytest

import envs
import jaxrl_se
from jaxrl_se.evolution_run import Progress
from jaxrl_se.one_line import to_line
from jaxrl_se.outcome import Confirmation


def _result(**changes):
    env, params = jaxrl_se.load("CartPole-v1")
    rows = [
        {
            "generation": i + 1,
            "fitness_best": 20.0 + i,
            "fitness_mean": 10.0 + i,
            "validation_mean": 15.0 if i == 2 else float("nan"),
        }
        for i in range(3)
    ]
    confirmation = Confirmation({"DDQN": (400.0, 500.0), "PPO": (500.0,)}, 22.0, 500.0)
    result = jaxrl_se.EvolutionResult(
        env,
        params,
        config=jaxrl_se.EvolutionConfig(),
        progress=Progress(3, real_steps=1234, rows=rows, cpu_seconds=2.0),
        compile_seconds=1.0,
        validation=15.0,
        test=lambda *_: None,
        task_name=envs.open_task("CartPole-v1").name,
        confirmation=confirmation,
    )
    return dataclasses.replace(result, **changes)


def test_a_report_shows_agents_and_the_whole_environment(tmp_path):
    result = _result()
    figure = jaxrl_se.report(result, tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 10_000
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook asks for
    evolution, agents = figure.axes
    assert [label.get_text() for label in agents.get_xticklabels()] == ["DDQN", "PPO"]
    means = [line.get_ydata()[0] for line in agents.lines if line.get_marker() == "D"]
    assert means == [450.0, 500.0]
    assert [list(line.get_xdata()) for line in evolution.lines][-1] == [3]
    assert "10 numbers (1,234 real steps, 2 CPU-s)" in figure.get_suptitle()
    line = figure.get_supxlabel().replace("\n", "")
    assert line == to_line(result.env, result.params)
    assert jaxrl_se.load(line)[0].spaces == result.env.spaces


def test_a_report_without_tests_and_of_no_result():
    figure = jaxrl_se.report(_result(confirmation=None))
    assert "not tested" in figure.axes[1].texts[0].get_text()
    with pytest.raises(TypeError, match="result must be an EvolutionResult"):
        jaxrl_se.report((1, 2))

"""The published evolution's curves, with a budget of a few seconds."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.synthetic import paper_se
from benchmarks.synthetic.paper_se import Options, run
from jaxrl_se.presets import ferreira2022


@pytest.fixture
def tiny(monkeypatch):
    def preset(task, **changes):
        config = ferreira2022(task, **changes)
        agent = dataclasses.replace(config.agent, hidden_sizes=(4,), batch_size=4)
        return config.replace(
            agent=agent,
            proxy=dataclasses.replace(config.proxy, hidden_sizes=(4,), max_steps=10),
            train_steps=200,
            fitness_episodes=1,
        )

    monkeypatch.setattr(paper_se, "ferreira2022", preset)


@pytest.mark.slow
def test_an_extended_run_continues_its_curves(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    options = Options(task="CartPole-v0", iterations=0, seeds=2, out=out, cache=False)
    run(options)
    short = json.loads((out / "summary.json").read_text())["CartPole-v0"]
    assert np.shape(short["curves"]) == (2, 1)

    run(dataclasses.replace(options, iterations=1, resume=True))
    longer = json.loads((out / "summary.json").read_text())["CartPole-v0"]
    assert np.shape(longer["curves"]) == (2, 2)
    assert np.equal(np.array(longer["curves"])[:, :1], short["curves"]).all()
    assert [point["iteration"] for point in longer["points"]] == [0]
    assert longer["points"][0]["published"] == 15
    assert longer["points"][0]["mean"] == pytest.approx(np.mean(short["curves"]))
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "CPU-minutes per iteration" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"iterations": -1}, "--iterations"),
        ({"seeds": 0}, "--seeds"),
        ({"resume": True}, "--out"),
    ],
)
def test_bad_options_name_themselves(wrong, named):
    with pytest.raises(ValueError, match=named):
        Options(**wrong)

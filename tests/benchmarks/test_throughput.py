"""The throughput benchmark compares equal work, and what it reports is complete."""

import json
import sys

import jax
import pytest

import envs
from benchmarks.throughput import baselines
from benchmarks.throughput import benchmark as throughput
from jaxrl_se.training import train_once

STEPS = 100


def step_flops(jaxpr, in_loop=False) -> int:
    """Operations of all matrix products of one step, which is what loops hold."""
    flops = 0
    for eqn in jaxpr.eqns:
        if in_loop and eqn.primitive.name == "dot_general":
            ((contracting, _), _) = eqn.params["dimension_numbers"]
            (axis,) = contracting
            depth = eqn.invars[0].aval.shape[axis]
            flops += 2 * eqn.outvars[0].aval.size * depth
        in_body = in_loop or eqn.primitive.name in ("scan", "while")
        params = list(eqn.params.values())
        for param in jax.tree.leaves(params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(param, "jaxpr", param)
            if hasattr(inner, "eqns"):
                flops += step_flops(inner, in_body)
    return flops


@pytest.mark.parametrize("name", ["ours", "train_plain", "train_rejax"])
def test_contenders_do_the_counted_work(name, key):
    """Traced in the real task, whose dynamics have no matrix product."""
    if name == "train_rejax":
        pytest.importorskip("rejax")
    env, params = envs.make("CartPole-v1")

    def train(key):
        if name == "ours":
            return train_once(baselines.AGENT, env, params, key, num_steps=STEPS)
        return getattr(baselines, name)(baselines.AGENT, env, params, key, STEPS)

    counted = throughput.flops_per_update(baselines.AGENT, baselines.SPACES)
    # By hand: 4 * 64 + 64 * 2 products forward, twice that backward less the inputs.
    assert counted == 32 * 2 * (3 * 384 + 2 * 384 - 256) + 2 * 384
    # Our derivative of a product has the inputs' as well, which XLA drops as unused.
    dropped = 32 * 2 * 256 if name == "ours" else 0
    assert step_flops(jax.make_jaxpr(train)(key).jaxpr) == counted + dropped


@pytest.mark.slow  # a whole benchmark
def test_reports_what_all_contenders_do(monkeypatch, tmp_path, capsys):
    found = baselines.contenders
    monkeypatch.setattr(  # the others cost seconds of compilation
        throughput,
        "contenders",
        lambda *args: {
            name: way
            for name, way in found(*args).items()
            if name in (baselines.GROUP, baselines.PLAIN)
        },
    )
    options = {"populations": 3, "steps": 400, "repeats": 2, "out": tmp_path / "run"}
    flags = [str(x) for name, value in options.items() for x in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["throughput", "--no-cache", *flags])
    throughput.main()

    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for name in (baselines.GROUP, baselines.PLAIN):
        rate = summary["updates_per_cpu_second"][name]["3"]
        assert 0 < rate["median"] <= rate["best"]
        assert summary["learned"][name]["best_action"] > 0.9
        assert summary["learned"][name]["value_error"] < 0.3
    wall = summary["updates_per_wall_second"]["3"]
    assert wall["best"] > 0 and 3 % wall["devices"] == 0
    assert summary["ceiling_flops_per_cpu_second"] > 1e8

    printed = capsys.readouterr().out
    assert baselines.LABELS[baselines.PLAIN] in printed and "P = 3" in printed
    assert "rejax DQN" in printed and "not installed: pip install" in printed


@pytest.mark.parametrize(
    "field, value", [("populations", (0,)), ("repeats", 0), ("steps", 32)]
)
def test_bad_options_are_named(field, value):
    with pytest.raises(ValueError, match=f"--{field}.*got"):
        throughput.Options(**{field: value})

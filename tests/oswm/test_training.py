"""Training: it learns, resumes bit by bit, and notices what is not finite."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from oswm import train as command
from oswm.closed_form import Persistence, Ridge
from oswm.context import Context
from oswm.nearest_neighbours import NearestNeighbours
from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES, Dataset
from oswm.selection import LeaveOneOut
from oswm.train import PRESETS, Options
from oswm.training import STEPS_PER_CALL, make_advance, paper_batch, start
from oswm.validation import compare, errors_of, held_out
from oswm.weights import load_model

# Kernel ridge regression and the prior take a minute to compile, and have their own
# tests: here others stand in for them.
BASE = LeaveOneOut(
    (Ridge(), Persistence(), Ridge(penalties=(0.1,)), NearestNeighbours())
)
TINY = dataclasses.replace(PRESETS["tiny"], base=BASE)


def draw_tasks(key, num_datasets, num_context, num_query):
    """Tasks of three observations: linear, but for the sine of one of them."""

    def one(key):
        obs_key, matrix_key = jax.random.split(key)
        number = num_context + num_query
        both = jax.random.normal(obs_key, (number, MAX_STATES + MAX_ACTIONS))
        both = both * (jnp.arange(MAX_STATES + MAX_ACTIONS) % 8 < 3)
        obs, action = both[:, :MAX_STATES], both[:, MAX_STATES:]
        matrix = 0.3 * jax.random.normal(matrix_key, (len(both[0]), MAX_STATES))
        is_used = (jnp.arange(MAX_STATES) % 8 < 3).astype(jnp.float32)
        change = (both @ matrix).at[:, 0].add(jnp.sin(3 * obs[:, 0])) * is_used
        rows = Context(
            obs,
            action,
            obs + change,
            obs[:, 1],
            1.0 * (obs[:, 2] > 1),
            jnp.ones(number),
        )
        return Dataset(rows, is_used, num_context)

    return jax.vmap(one)(jax.random.split(key, num_datasets))


@functools.cache
def make_cheap_advance(config, num_steps):
    """Traced and compiled once for all tests."""
    return make_advance(config, num_steps, draw_tasks)


@pytest.fixture
def cheap(monkeypatch):
    """The command with these tasks and models, validated as if it were ridge."""

    def errors(folder, config, data):
        ridge = errors_of(Ridge(), data)
        return dict.fromkeys(("blend", "ridge", "kernel_ridge"), ridge)

    def validate(state, config, data, baselines):
        return compare({"oswm": baselines["ridge"], **baselines})

    monkeypatch.setitem(PRESETS, "tiny", TINY)
    monkeypatch.setattr(command, "_baseline_errors", errors)
    monkeypatch.setattr(command, "_validate", validate)
    draw = functools.partial(held_out, draw=draw_tasks)
    monkeypatch.setattr(command, "held_out", draw)
    monkeypatch.setattr(command, "make_advance", make_cheap_advance)


def test_a_run_learns_and_a_resumed_one_is_the_same(tmp_path, monkeypatch, cheap):
    whole = Options(tmp_path / "whole", "tiny", steps=72, num_validation=3)
    command.train(whole)
    metrics = np.genfromtxt(whole.out / "metrics.csv", delimiter=",", names=True)
    assert metrics["loss"][-2:].mean() < metrics["loss"][0] - 0.2
    parts = dataclasses.replace(whole, out=tmp_path / "parts")

    calls = []

    def stop(*args):
        advance = make_cheap_advance(*args)

        def advance_once(state):
            if calls:
                raise KeyboardInterrupt
            calls.append(1)
            return advance(state)

        return advance_once

    with monkeypatch.context() as patch:
        patch.setattr(command, "make_advance", stop)
        with pytest.raises(KeyboardInterrupt):
            command.train(parts)
    with pytest.raises(ValueError, match="--resume"):
        command.train(parts)
    with pytest.raises(ValueError, match="other settings"):
        command.train(dataclasses.replace(parts, resume=True, seed=1))
    # --minutes is not looked at again: the folder says how many steps there are.
    resumed = dataclasses.replace(parts, resume=True, steps=None, minutes=1e6)
    report = command.train(resumed)
    assert report["step"] == 72
    for name in ("weights.npz", "metrics.csv"):
        with (
            np.load(whole.out / name)
            if name.endswith("npz")
            else open(whole.out / name) as a
        ):
            if name.endswith("npz"):
                with np.load(parts.out / name) as b:
                    for key in a:
                        np.testing.assert_array_equal(a[key], b[key])
            else:
                assert a.read() == (parts.out / name).read_text()
    card = json.loads((parts.out / "card.json").read_text())["card"]
    assert card["num_steps"] == 72 and 0 <= report["beats_ridge"] <= 1
    assert load_model(parts.out).config == TINY.network
    check_that_steps_that_are_not_finite_are_skipped()


def check_that_steps_that_are_not_finite_are_skipped():
    """Part of the test above, whose program takes half a minute to compile."""
    state = start(TINY, 72)
    poisoned = jax.tree.map(lambda x: x * jnp.nan, state.weights)
    state = dataclasses.replace(state, weights=poisoned)
    new, losses = make_cheap_advance(TINY, 72)(state)
    assert not np.isfinite(losses).any()
    assert int(new.num_skipped) == STEPS_PER_CALL
    assert int(new.step) == STEPS_PER_CALL
    jax.tree.map(np.testing.assert_array_equal, new.optimizer, state.optimizer)


def test_a_run_that_is_never_finite_says_so(tmp_path, monkeypatch, cheap):
    def broken(*args, **kwargs):
        def advance(state):
            return state.replace(
                step=state.step + STEPS_PER_CALL, num_skipped=jnp.int32(30)
            ), jnp.full(STEPS_PER_CALL, jnp.nan)

        return advance

    monkeypatch.setattr(command, "make_advance", broken)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        command.train(Options(tmp_path, "tiny", steps=10, num_validation=3))


@pytest.mark.slow
def test_the_papers_prior_and_other_bases_train_too():
    network = dataclasses.replace(TINY.network, num_models=1)
    config = dataclasses.replace(TINY, network=network, base=LeaveOneOut((Ridge(),)))
    step = make_advance(config, 12, draw=paper_batch)
    state, losses = step(start(config, 12))
    assert np.isfinite(losses).all() and int(state.step) == STEPS_PER_CALL
    data = held_out(3, 32, 8, draw_tasks)
    found = command._validate(state, config, data, {"ridge": errors_of(Ridge(), data)})
    assert 0 <= found["beats_ridge"] <= 1 and np.isfinite(found["error_oswm"])


def test_datasets_are_shared_out_evenly():
    odd = dataclasses.replace(TINY, num_datasets=jax.device_count() * 8 + 1)
    if jax.device_count() > 1:
        with pytest.raises(ValueError, match="num_datasets"):
            make_advance(odd, 10)
    with pytest.raises(ValueError, match="num_passes"):
        make_advance(dataclasses.replace(TINY, num_passes=5), 10)
    with pytest.raises(ValueError, match="minutes"):
        command._steps_within(TINY, 0)

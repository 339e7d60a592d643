"""Training: it learns, resumes bit by bit, and notices what is not finite."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from oswm import train as command
from oswm.closed_form import Ridge
from oswm.train import PRESETS, Options
from oswm.training import STEPS_PER_CALL, make_advance, paper_batch, start
from oswm.validation import errors_of
from oswm.weights import load_model

TINY = PRESETS["tiny"]


@functools.cache
def advance_tiny():
    return make_advance(TINY, 60)


@pytest.fixture
def one_baseline(monkeypatch):
    """Validation against ridge alone: the others take long to compile."""

    def errors(folder, data):
        ridge = errors_of(Ridge(), data)
        return dict.fromkeys(("base", "ridge", "kernel_ridge"), ridge)

    monkeypatch.setattr(command, "_baseline_errors", errors)


@pytest.mark.slow
def test_a_run_learns_and_a_resumed_one_is_the_same(
    tmp_path, monkeypatch, one_baseline
):
    whole = Options(tmp_path / "whole", "tiny", steps=60, num_validation=3)
    command.train(whole)
    metrics = np.genfromtxt(whole.out / "metrics.csv", delimiter=",", names=True)
    assert metrics["loss"][-2:].mean() < metrics["loss"][0] - 0.2
    parts = dataclasses.replace(whole, out=tmp_path / "parts")

    calls = []

    def stop(*args, **kwargs):
        advance = make_advance(*args, **kwargs)

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
    assert report["step"] == 60
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
    assert card["num_steps"] == 60 and 0 <= report["beats_ridge"] <= 1
    assert load_model(parts.out).config == TINY.network


def test_steps_that_are_not_finite_are_skipped_and_counted():
    state = start(TINY, 60)
    poisoned = jax.tree.map(lambda x: x * jnp.nan, state.weights)
    state = dataclasses.replace(state, weights=poisoned)
    new, losses = advance_tiny()(state)
    assert not np.isfinite(losses).any()
    assert int(new.num_skipped) == STEPS_PER_CALL
    assert int(new.step) == STEPS_PER_CALL
    jax.tree.map(np.testing.assert_array_equal, new.optimizer, state.optimizer)


def test_a_run_that_is_never_finite_says_so(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        def advance(state):
            return state.replace(
                step=state.step + STEPS_PER_CALL, num_skipped=jnp.int32(30)
            ), jnp.full(STEPS_PER_CALL, jnp.nan)

        return advance

    monkeypatch.setattr(command, "make_advance", broken)
    monkeypatch.setattr(command, "_baseline_errors", lambda *_: {})
    with pytest.raises(FloatingPointError, match="learning_rate"):
        command.train(Options(tmp_path, "tiny", steps=10, num_validation=3))


@pytest.mark.slow
def test_the_papers_prior_and_other_bases_train_too():
    step = make_advance(TINY, 10, draw=paper_batch, base=Ridge())
    state, losses = step(start(TINY, 10))
    assert np.isfinite(losses).all() and int(state.step) == 10


def test_datasets_are_shared_out_evenly():
    odd = dataclasses.replace(TINY, num_datasets=jax.device_count() * 8 + 1)
    if jax.device_count() > 1:
        with pytest.raises(ValueError, match="num_datasets"):
            make_advance(odd, 10)
    with pytest.raises(ValueError, match="minutes"):
        command._steps_within(TINY, 0)

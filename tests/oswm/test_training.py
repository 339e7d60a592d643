"""Training: it learns, resumes bit by bit, and notices what is not finite."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_runs.run_folder import RunFolderError
from oswm import pretraining
from oswm.closed_form import Persistence, Ridge
from oswm.context import Context
from oswm.pretraining import Validation, pretrain
from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES, Dataset
from oswm.selection import LeaveOneOut
from oswm.train import Options, config_of
from oswm.training import STEPS_PER_CALL, make_advance, paper_batch, start
from oswm.validation import errors_of, held_out
from oswm.weights import load_model, read_card

# Kernel ridge regression and the prior take a minute to compile, and have their own
# tests: here others stand in for them.
BASE = LeaveOneOut((Ridge(), Persistence()))
TINY = config_of(Options(out=Path(), preset="tiny"))
TINY = dataclasses.replace(
    TINY, network=dataclasses.replace(TINY.network, num_models=2), base=BASE
)


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


TRACES = []


def traced_draw(*args):
    """`draw_tasks`, which notices when a program of it is made."""
    TRACES.append(args[1:])
    return draw_tasks(*args)


@functools.cache
def make_cheap_advance(config, num_steps):
    """Traced and compiled once for all tests."""
    return make_advance(config, num_steps, traced_draw)


@pytest.fixture
def cheap(monkeypatch):
    """A run with these tasks and models, validated against ridge and itself alone."""
    monkeypatch.setattr(pretraining, "baselines_of", lambda config: {"ridge": Ridge()})
    return functools.partial(
        pretrain,
        config=TINY,
        num_validation=3,
        draw=draw_tasks,
        advance=make_cheap_advance,
        say=lambda line: None,
    )


def test_a_training_step_keeps_shapes():
    """Traced alone; the next test runs it."""
    state = jax.eval_shape(lambda: start(TINY, 72))
    step = make_advance(TINY, 72, draw_tasks)
    new, losses = jax.eval_shape(step, state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert losses.shape == (STEPS_PER_CALL,)


@pytest.mark.slow  # compiles the training step, half a minute
def test_a_run_learns_and_a_resumed_one_is_the_same(tmp_path, cheap):
    whole, parts, said = tmp_path / "whole", tmp_path / "parts", []
    cheap(whole, steps=72, say=said.append)
    assert any("of 72: loss" in line and "left" in line for line in said)
    metrics = np.genfromtxt(whole / "metrics.csv", delimiter=",", names=True)
    assert metrics["loss"][-2:].mean() < metrics["loss"][0] - 0.2

    def stop_after_one(*args):
        calls = iter([make_cheap_advance(*args)])

        def advance(state):
            found = next(calls, None)
            if found is None:
                raise KeyboardInterrupt
            return found(state)

        return advance

    with pytest.raises(KeyboardInterrupt):
        cheap(parts, steps=72, advance=stop_after_one)
    with pytest.raises(RunFolderError, match="--resume"):
        cheap(parts, steps=72)
    with pytest.raises(RunFolderError, match=r"another configuration \(seed"):
        cheap(parts, config=dataclasses.replace(TINY, seed=1), steps=72, resume=True)
    # Minutes are not looked at again: the folder says how many steps there are.
    report = cheap(parts, minutes=1e6, resume=True)
    assert report["step"] == 72
    a, b = (load_model(folder, base=BASE) for folder in (whole, parts))
    assert a == b and a.config == TINY.network
    metrics = [(folder / "metrics.csv").read_text() for folder in (whole, parts)]
    assert metrics[0] == metrics[1]
    card = read_card(parts)["card"]
    assert card["num_steps"] == 72 and 0 <= report["beats_ridge"] <= 1
    check_that_steps_that_are_not_finite_are_skipped()
    # Wherever a state comes from: the start, a step, a checkpoint, a user's hands.
    assert len(TRACES) == 1


def test_a_run_of_no_time_is_refused(tmp_path, cheap):
    with pytest.raises(ValueError, match="minutes must be"):
        cheap(tmp_path, minutes=0.0)


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


def test_a_run_that_is_never_finite_says_so(tmp_path, cheap):
    def broken(*args):
        def advance(state):
            return state.replace(
                step=state.step + STEPS_PER_CALL, num_skipped=jnp.int32(30)
            ), jnp.full(STEPS_PER_CALL, jnp.nan)

        return advance

    with pytest.raises(FloatingPointError, match="learning_rate"):
        cheap(tmp_path, steps=10, advance=broken)


@pytest.mark.slow
def test_the_papers_prior_and_other_bases_train_too():
    network = dataclasses.replace(TINY.network, num_models=1)
    config = dataclasses.replace(TINY, network=network, base=LeaveOneOut((Ridge(),)))
    step = make_advance(config, 12, draw=paper_batch)
    state, losses = step(start(config, 12))
    assert np.isfinite(losses).all() and int(state.step) == STEPS_PER_CALL
    data = held_out(3, 32, 8, draw_tasks)
    validation = Validation(config.base, data, {"ridge": errors_of(Ridge(), data)})
    found = validation.measure(state.weights, config)
    assert 0 <= found["beats_ridge"] <= 1 and np.isfinite(found["error_oswm"])


def test_datasets_are_shared_out_evenly():
    odd = dataclasses.replace(TINY, num_datasets=jax.device_count() * 8 + 1)
    if jax.device_count() > 1:
        with pytest.raises(ValueError, match="num_datasets"):
            make_advance(odd, 10)
    with pytest.raises(ValueError, match="num_passes"):
        make_advance(dataclasses.replace(TINY, num_passes=5), 10)

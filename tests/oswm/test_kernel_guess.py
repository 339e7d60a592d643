"""The guess of kernels: symmetries, the solution that it is trained through, a run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_runs.weight_files import WeightFileError, write_weights
from oswm.kernel_guess import (
    GuessConfig,
    KernelGuess,
    init_guess,
    load_guess,
    save_guess,
)
from oswm.kernel_pretraining import pretrain_guess
from oswm.kernel_training import GuessTraining, Lesson, held_out_errors, make_lesson
from oswm.relevance import Flattened, RelevanceSearch
from tests.oswm.test_training import draw_tasks

TINY = GuessConfig(width=8, num_heads=2, num_rounds=2)
NUM_ROWS, NUM_QUERIES, NUM_INPUTS = 48, 16, 5


@functools.cache
def lesson(seed=0):
    """Of five inputs the second matters, and the last is not in use."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(NUM_ROWS + NUM_QUERIES, NUM_INPUTS)).astype(np.float32)
    inputs[:, -1] = 0
    mask = np.ones(NUM_ROWS, np.float32)
    mask[40:] = 0
    inputs[:NUM_ROWS] *= mask[:, None]
    basis = np.insert(inputs, 0, 1.0, axis=1)
    basis[:NUM_ROWS, 0] = mask
    targets = (np.sin(2 * inputs[:, 1]) + 0.5 * inputs[:, 0])[:, None]
    targets[:NUM_ROWS] *= mask[:, None]
    start = np.array([0.5, 0.5, 0.5, 0.5, 0.0], np.float32)
    known, asked = slice(NUM_ROWS), slice(NUM_ROWS, None)
    query_mask = np.ones(NUM_QUERIES, np.float32)
    query_mask[-1] = 0
    arrays = [inputs[known], basis[known], targets[known], mask]
    arrays += [inputs[asked], basis[asked], targets[asked], query_mask, start]
    return Lesson(*map(jnp.asarray, arrays))


@functools.cache
def scrambled():
    """Weights for which a guess is far from its start."""
    weights = init_guess(jax.random.key(0), TINY)
    leaves, tree = jax.tree.flatten(weights)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        x + 0.2 * jax.random.normal(key, x.shape)
        for x, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


@functools.partial(jax.jit, static_argnums=1)
def climb(weights, num_steps, inputs, basis, targets, mask, start):
    guess = None if weights is None else KernelGuess(weights, TINY)
    search = RelevanceSearch(num_steps, guess=guess)
    return search.climb(inputs, Flattened.of(basis, targets, mask), start)


def climb_of(weights, task, num_steps=0):
    return climb(
        weights, num_steps, task.inputs, task.basis, task.targets, task.mask, task.start
    )


@pytest.mark.slow  # compiles the network for several orders
def test_the_order_of_inputs_does_not_matter():
    task, order = lesson(), np.array([3, 0, 4, 1, 2])
    other = dataclasses.replace(
        task,
        inputs=task.inputs[:, order],
        basis=task.basis[:, np.insert(1 + order, 0, 0)],
        start=task.start[order],
    )
    place, moved = climb_of(scrambled(), task), climb_of(scrambled(), other)
    np.testing.assert_allclose(moved[:-1], place[:-1][order], rtol=1e-2, atol=1e-2)
    used = task.start > 0
    change = (place[:-1] - jnp.log(0.5))[used]
    assert jnp.ptp(change) > 0.05 and place[:-1][~used] == 0


def test_rows_and_inputs_that_are_not_in_use_change_nothing():
    task = lesson()
    kept = np.arange(NUM_ROWS) < 40
    order = np.concatenate([np.flatnonzero(~kept), np.flatnonzero(kept)[::-1]])
    other = jax.tree.map(lambda x: x[order] if len(x) == NUM_ROWS else x, task)
    other = dataclasses.replace(
        other,
        inputs=other.inputs.at[:8, 0].set(7.0).at[:, 4].set(3.0),  # Junk.
    )
    place, again = climb_of(scrambled(), task), climb_of(scrambled(), other)
    np.testing.assert_allclose(again, place, rtol=1e-2, atol=1e-2)


def test_without_training_a_climb_goes_as_without_a_guess():
    weights = init_guess(jax.random.key(0), TINY)
    with_guess, without = (climb_of(w, lesson(), 4) for w in (weights, None))
    np.testing.assert_allclose(with_guess, without, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(climb_of(weights, lesson())[:4], np.log(0.5), rtol=1e-5)


def exact_error(task, place):
    """Of a Gaussian process on the polynomial's features, in float64."""
    task = jax.tree.map(lambda x: np.asarray(x, np.float64), task)
    kept = task.mask > 0
    scale = (task.start > 0) * np.exp(np.asarray(place[:-1], np.float64))
    known, asked = scale * task.inputs[kept], scale * task.queries

    def kernel(a, b):
        return np.exp(-0.5 * np.sum((a[:, None] - b) ** 2, axis=2))

    covariance = kernel(known, known) + np.exp(place[-1]) * np.eye(kept.sum())
    basis = task.basis[kept][:, :5]
    inverse = np.linalg.inv(covariance)
    line = np.linalg.solve(basis.T @ inverse @ basis, basis.T @ inverse)
    line = line @ task.targets[kept]
    rest = inverse @ (task.targets[kept] - basis @ line)
    mean = task.query_basis[:, :5] @ line + kernel(asked, known) @ rest
    squared = (task.query_targets - mean) ** 2
    return np.sum(task.query_mask[:, None] * squared) / task.query_mask.sum()


def test_held_out_rows_are_predicted_as_by_the_exact_solution():
    task, place = lesson(), jnp.array([-0.7, 0.1, -1.2, -0.9, 0.0, -3.0])

    @jax.jit
    @jax.value_and_grad
    def error(place):
        flat = Flattened.of(task.basis, task.targets, task.mask)
        return held_out_errors(task, flat, place)[0]

    value, gradient = error(place)
    np.testing.assert_allclose(value, exact_error(task, place), rtol=0.02)
    assert np.isfinite(gradient).all() and gradient[4] == 0
    for i in (0, 1, 5):
        step = np.zeros(6)
        step[i] = 1e-3
        slope = exact_error(task, place + step) - exact_error(task, place - step)
        np.testing.assert_allclose(gradient[i], slope / 2e-3, rtol=0.05, atol=1e-5)


def test_lessons_ask_for_what_varies_and_show_it_at_the_front():
    tasks = draw_tasks(jax.random.key(0), 12, 64, 8)
    keys = jax.random.split(jax.random.key(1), 12)
    make = jax.jit(jax.vmap(lambda key, task: make_lesson(key, task, 48)))
    found = make(keys, tasks)
    assert found.inputs.shape == (12, 48, 24) and found.queries.shape == (12, 72, 24)
    assert (found.mask.sum(1) == 48).all() and (found.query_mask.sum(1) == 24).all()
    num_inputs = (found.start > 0).sum(1)
    assert set(num_inputs.tolist()) <= {9, 15}  # Reward's has the next state too.
    assert ((jnp.arange(24) < num_inputs[:, None]) == (found.start > 0)).all()
    asked = jnp.any(found.targets != 0, axis=1)
    assert set(asked.sum(1).tolist()) == {1, 6}
    assert (found.start == found.start.max(1, keepdims=True))[found.start > 0].all()


@functools.partial(jax.jit, static_argnums=0)
def errors_of(guess, lessons):
    """Of the guess alone, and of the best single length scale in hindsight, [K, O]."""

    def one(task):
        flat = Flattened.of(task.basis, task.targets, task.mask)
        place = RelevanceSearch(0, guess=guess).climb(task.inputs, flat, task.start)
        tried = jnp.stack(
            [
                jnp.full(len(place), log_scale).at[-1].set(noise)
                for log_scale in (-2.0, -1.0, 0.0)
                for noise in (-7.0, -3.0)
            ]
        )
        single = jax.lax.map(lambda place: held_out_errors(task, flat, place), tried)
        return held_out_errors(task, flat, place), jnp.min(single, axis=0)

    return jax.lax.map(one, lessons)


def test_the_shipped_guess_beats_one_length_scale_on_tasks_it_has_not_seen():
    """Lines, but for a sine of one of nine inputs; a guess takes four looks."""
    tasks = draw_tasks(jax.random.key(7), 12, 96, 32)
    keys = jax.random.split(jax.random.key(8), 12)
    make = jax.jit(jax.vmap(lambda key, task: make_lesson(key, task, 80)))
    lessons = make(keys, tasks)
    guessed, single = (np.asarray(x) for x in errors_of(load_guess(), lessons))
    is_bent = np.zeros_like(guessed, bool)
    is_bent[:, 0] = np.any(np.asarray(lessons.targets)[:, :, 0] != 0, axis=1)
    assert is_bent.sum() > 3
    ratio = np.exp(np.mean(np.log(guessed[is_bent] / single[is_bent])))
    assert ratio < 0.5


@pytest.mark.slow  # resuming a training: `tests/oswm/test_training.py`
def test_a_run_learns_resumes_and_is_read(tmp_path):
    config = GuessTraining(
        TINY, num_tasks=8, num_passes=2, batch_size=4, num_context=40, num_rows=32
    )
    config = dataclasses.replace(config, num_query=16, learning_rate=1e-2)
    run = functools.partial(
        pretrain_guess, config=config, num_validation=8, draw=draw_tasks
    )
    said = []
    whole = run(tmp_path / "whole", steps=80, say=said.append)
    assert whole["step"] == 80 and any("min left" in line for line in said)
    metrics = np.genfromtxt(
        tmp_path / "whole" / "metrics.csv", delimiter=",", names=True
    )
    assert metrics["loss"][-3:].mean() < metrics["loss"][:3].mean() - 0.05

    def stop(line):
        if "step 40" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", steps=80, say=stop)
    assert run(tmp_path / "parts", resume=True, say=said.append) == whole
    whole, parts = (load_guess(tmp_path / name) for name in ("whole", "parts"))
    assert whole == parts and hash(whole) == hash(parts) and whole.config == TINY


def test_files_that_are_not_a_guess_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="--preset kernels"):
        load_guess(tmp_path)
    path = tmp_path / "kernels.npz"
    guess = KernelGuess(init_guess(jax.random.key(0), TINY), TINY)
    save_guess(path, guess, {})
    assert load_guess(path).config == TINY
    write_weights(path, {"a": np.zeros(2)}, {"format_version": 9})
    with pytest.raises(WeightFileError, match="format version 9"):
        load_guess(path)
    write_weights(
        path,
        {"a": np.zeros(2)},
        {"format_version": 1, "network": dataclasses.asdict(TINY)},
    )
    with pytest.raises(WeightFileError, match=r"kernels\.npz"):
        load_guess(path)
    with pytest.raises(ValueError, match="num_heads must be a divisor"):
        GuessConfig(width=9)
    with pytest.raises(ValueError, match="batch_size must be a divisor"):
        GuessTraining(batch_size=5)
    with pytest.raises((TypeError, ValueError), match="num_tasks"):
        GuessTraining(num_tasks=0)

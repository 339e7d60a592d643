"""Gaussian processes, the reference's parity and the simulated loop."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import finetune
from finetune import gp
from finetune import reference as ref
from finetune.baselines import random_search
from finetune.encoding import history_features
from finetune.policy import expected_improvement
from finetune.replay import replay_reference
from finetune.simulate import Table, make_tables, simulate
from finetune.training import (
    pad_runs,
    scan_in_parts,
)


@pytest.mark.parametrize("num_rows", [1, 7, 300])
def test_weight_space_equals_dense_gp(num_rows):
    random = np.random.default_rng(num_rows)
    features = random.normal(size=(num_rows, 6)).astype(np.float32)
    query = random.normal(size=(5, 6)).astype(np.float32)
    noise = random.uniform(0.1, 1, num_rows).astype(np.float32)
    ard = random.uniform(0.1, 2, 6).astype(np.float32)
    truth = random.normal(size=num_rows).astype(np.float32)
    padded = [
        np.concatenate([x, np.ones_like(x[:1])]) for x in (features, truth, noise)
    ]
    mask = np.r_[np.ones(num_rows, np.float32), np.float32(0)]
    mean, var = gp.predict(gp.gather_evidence(*padded, mask), ard, query)

    kernel = (features * ard) @ features.T + np.diag(noise)
    cross = (query * ard) @ features.T
    expected = cross @ np.linalg.solve(kernel, truth)
    explained = np.sum(cross * np.linalg.solve(kernel, cross.T).T, 1)
    np.testing.assert_allclose(mean, expected, atol=2e-4)
    np.testing.assert_allclose(var, ((query**2) * ard).sum(1) - explained, atol=2e-4)
    likelihood = gp.log_marginal(*padded, mask, ard)
    exact = multivariate_normal.logpdf(truth, np.zeros(num_rows), kernel)
    np.testing.assert_allclose(likelihood, exact, rtol=2e-4, atol=1e-3)


def test_inverse_gradient_is_exact():
    root = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    matrix = jnp.asarray(root @ root.T + 2 * np.eye(4, dtype=np.float32))

    def ours(m):
        inverse, log_det = gp.inverse_and_log_det(m)
        return jnp.sum(jnp.sin(inverse)) + log_det

    def exact(m):
        return jnp.sum(jnp.sin(jnp.linalg.inv(m))) + jnp.linalg.slogdet(m)[1]

    np.testing.assert_allclose(
        jax.grad(ours)(matrix), jax.grad(exact)(matrix), atol=1e-5
    )


def test_reference_parity():
    z = np.load(Path(__file__).parent / "golden" / "parity_fixture.npz")
    weights = {k[2:]: jnp.asarray(z[k]) for k in z if k.startswith("w/")}
    gp_params = {k[3:]: jnp.asarray(z[k], jnp.float32) for k in z if k[:3] == "gp/"}
    features = {}
    extract = jax.jit(ref.reference_features)
    for part in ("train", "test"):
        features[part] = extract(
            weights,
            *(z[f"{part}/{name}"] for name in ("hps", "budget")),
            z[f"{part}/curve"][:, 0],
            z[f"{part}/meta"],
        )
        np.testing.assert_allclose(
            features[part], z[f"{part}/features_eval"], atol=1e-4
        )
    pad = 3  # a padded history must change nothing
    known = jnp.concatenate([features["train"], jnp.ones((pad, 32))])
    targets = jnp.concatenate([z["train/y"], jnp.ones(pad)])
    mask = jnp.r_[jnp.ones(32), jnp.zeros(pad)]
    mean, std = jax.jit(ref.reference_posterior)(
        known, targets, mask, features["test"], gp_params
    )
    np.testing.assert_allclose(mean, z["test/pred_mean"], atol=1e-4)
    np.testing.assert_allclose(std, z["test/pred_std_incl_noise"], atol=1e-4)
    nll = jax.jit(ref.reference_nll)(known, targets, mask, gp_params)
    np.testing.assert_allclose(nll, z["nll_per_point_eval"], atol=1e-4)
    gain = expected_improvement(mean, std, z["test/ei_best"])
    np.testing.assert_allclose(gain, z["test/ei"], atol=1e-4)


@pytest.mark.slow
def test_reference_meta_training_ends_at_its_noise(data_folder):
    """10,000 steps on the real data; `test_reference_parity` holds each number."""
    data = finetune.read(data_folder / "quicktune_extended")
    padded, index = pad_runs(data)
    train, _ = finetune.leave_datasets_out(21)
    weights = np.zeros(21, np.float32)
    weights[train[0]] = 1 / len(train[0])
    # Here the time goes into the steps, not into compiling them.
    train_reference = jax.jit(
        ref.train_reference, compiler_options={"xla_backend_optimization_level": 1}
    )
    trained = train_reference(
        jax.random.key(1),
        ref.fit_reference_scaling(data)(jnp.asarray(padded["vectors"])),
        padded["curves"],
        padded["lengths"],
        data.meta_features,
        jnp.asarray((index >= 0).sum(1)),
        weights,
    )
    found = ref.gp_parameters(trained)
    assert abs(found["noise"] - 0.4705) < 0.01
    assert abs(found["outputscale"] - 0.480) < 0.01


def test_reference_asks_for_epochs_of_any_budget():
    curves = np.random.default_rng(0).uniform(size=(3, 80)).astype(np.float32)
    epoch = jnp.array([1, 20, 70])
    budget, seen = ref.ask_epoch(curves, epoch)
    np.testing.assert_allclose(budget, [0.02, 0.4, 1.0])
    np.testing.assert_array_equal(seen[0], 0)
    np.testing.assert_array_equal(seen[1], np.r_[curves[1, :19], np.zeros(31)])
    np.testing.assert_array_equal(seen[2], curves[2, :50])
    short, padded = ref.ask_epoch(curves[:, :30], epoch)
    np.testing.assert_array_equal(short, budget)
    np.testing.assert_array_equal(padded[:2], seen[:2])


@pytest.mark.slow  # the test above holds what depends on the budget
def test_reference_replays_alike_whatever_the_declared_budget():
    random = np.random.default_rng(0)
    num_runs, length = 12, 20
    curves = np.sort(random.uniform(size=(num_runs, length)), 1).astype(np.float32)
    weights = ref.init_reference(jax.random.key(0), 30)
    inputs = jnp.asarray(random.normal(size=(num_runs, 30)), jnp.float32)
    grid = jnp.arange(1.0, 150.0)
    found = []
    for budget in (20, 80):
        table = Table(
            curves=jnp.asarray(np.pad(curves, ((0, 0), (0, budget - length)), "edge")),
            costs=jnp.ones((num_runs, budget)),
            lengths=jnp.full(num_runs, length),
            best=jnp.asarray(curves.max()),
            worst=jnp.asarray(curves.min()),
        )
        replay = jax.jit(
            lambda table: replay_reference(
                jax.random.key(1),
                weights,
                inputs,
                jnp.ones(4),
                jnp.ones(num_runs),
                table,
                grid,
                rounds=((10, 3),),
                max_history=256,
            )
        )
        found.append(np.asarray(replay(table))[0])
    np.testing.assert_allclose(*found, atol=1e-5)
    assert found[0][0] > found[0][-1]


def test_history_features_do_not_look_ahead():
    curve = np.random.default_rng(0).uniform(size=12).astype(np.float32)
    changed = curve.copy()
    changed[5:] = 0.9
    summarise = jax.jit(history_features)
    before, after = summarise(curve), summarise(changed)
    np.testing.assert_array_equal(before[:6], after[:6])
    assert (before[6:] != after[6:]).any(1).all()
    np.testing.assert_array_equal(before[0], 0)
    np.testing.assert_array_equal(before[1:, 0], curve[:-1])


@pytest.mark.parametrize("num_steps", [7, 46])
def test_parts_of_a_scan_equal_the_whole(num_steps):
    drawn = np.random.default_rng(0).normal(size=(2, 3, num_steps))

    def advance(carry, drawn, decay):
        def step(carry, x):
            return decay * carry + x, None

        return jax.lax.scan(step, carry, jnp.moveaxis(drawn, 2, 0))[0]

    found = scan_in_parts(advance, jnp.zeros((2, 3)), jnp.asarray(drawn), 0.9, "test")
    expected = drawn @ 0.9 ** np.arange(num_steps)[::-1]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_replay_equals_a_python_loop(synthetic):
    tables = make_tables(synthetic)
    grid = jnp.asarray([100.0, 1000.0, 5000.0])
    keys = jax.random.split(jax.random.key(0), (synthetic.num_datasets, 2))
    blank = jnp.zeros(synthetic.num_datasets)
    regret = np.asarray(simulate(random_search, keys, blank, tables, grid))
    assert (np.diff(regret, axis=-1) <= 1e-6).all()
    table = jax.tree.map(lambda x: np.asarray(x[2]), tables)
    epochs, clock, best, current = np.zeros(40, int), 0.0, 0.0, -1
    trace = np.zeros(3)
    for step in range(10_000):
        if clock >= 5000 or (epochs >= table.lengths).all():
            break
        noise = jax.random.uniform(jax.random.fold_in(keys[2, 1], step), (40,))
        score = np.array(noise)
        if current >= 0:
            score[current] += 2
        current = int(np.argmax(np.where(epochs < table.lengths, score, -np.inf)))
        clock += table.costs[current, epochs[current]]
        best = max(best, table.curves[current, epochs[current]])
        epochs[current] += 1
        trace[np.asarray(grid) >= clock] = best
    expected = (table.best - trace) / (table.best - table.worst)
    np.testing.assert_allclose(regret[2, 1], expected, rtol=1e-5)

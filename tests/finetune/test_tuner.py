"""Ask and tell, history files, surrogates that were trained here, the command line.

All that needs the meta-trained surrogates is in this file: they take ten seconds.
"""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finetune
from benchmarks.finetuning.arms import split_seeds
from finetune.baselines import random_search
from finetune.encoding import history_features
from finetune.replay import replay_fixed
from finetune.simulate import make_tables, simulate
from finetune.surrogate import apply_member
from finetune.training import draw_examples, make_runs, pad_runs, predict_examples
from finetune.tuner import Trial


def _tuner(bundle, synthetic, **settings):
    return finetune.Tuner(
        surrogates=bundle,
        meta_features=synthetic.meta_features[7],
        **{"num_candidates": 50, **settings},
    )


def _train(trial):
    """A pretend training that saturates."""
    return 0.6 * (1 - 0.5**trial.epoch)


@pytest.mark.parametrize("refit", ["no_refit_history", "no_refit_meta", "refit"])
def test_ask_and_tell_on_an_unseen_dataset(bundle, synthetic, refit):
    runs = np.flatnonzero((synthetic.dataset == 7) & (synthetic.lengths == 20))
    tuner = _tuner(
        bundle,
        synthetic,
        refit=refit,
        candidates=[synthetic.config(run) for run in runs],
    )
    epochs = {}
    for _ in range(20):
        trial = tuner.suggest()
        epochs[trial.id] = epochs.get(trial.id, 0) + 1
        assert trial.epoch == epochs[trial.id]
        run, epoch = runs[trial.id], trial.epoch - 1
        tuner.observe(trial, synthetic.curves[run, epoch], synthetic.costs[run, epoch])
    # one run to its end is the same number of epochs
    final = synthetic.curves[runs].max(1)
    assert tuner.best[1] > np.quantile(final, 0.7)
    target, mean, std = tuner.predict(trial.id)
    assert (std > 0).all() and (np.diff(target) >= 0).all() and mean.shape == (4,)


def test_failed_trials_are_not_suggested_again(bundle, synthetic):
    tuner = _tuner(bundle, synthetic)
    failed = []
    for _ in range(5):
        trial = tuner.suggest()
        assert trial.id not in failed
        tuner.observe_failure(trial, seconds=3.0)
        failed.append(trial.id)
    tuner.observe(tuner.suggest(), 0.2, 1.0)
    assert tuner.best[1] == 0.2


def test_tuner_refuses(bundle, synthetic, tmp_path):
    tuner = _tuner(bundle, synthetic)
    trial = tuner.suggest()
    with pytest.raises(ValueError, match="was not suggested"):
        tuner.observe(Trial(trial.id, trial.config, 2), 0.1, 1.0)
    with pytest.raises(ValueError, match="was not suggested"):
        tuner.observe_failure(Trial(trial.id + 1, trial.config, 1))
    with pytest.raises(ValueError, match=r"accuracy must be a fraction .* got 45"):
        tuner.observe(trial, 45, 1.0)
    with pytest.raises(ValueError, match="seconds must be a positive number"):
        tuner.observe(trial, 0.4, -1.0)
    with pytest.raises(TypeError, match="trial must be a Trial, as suggest gives it"):
        tuner.observe("x", 0.4, 1.0)
    tuner.observe(trial, 0.4, 1.0)
    with pytest.raises(ValueError, match="observed already"):
        tuner.observe(trial, 0.4, 1.0)
    with pytest.raises(ValueError, match="meta_features must be 4 numbers"):
        tuner.recommend([1, 2])
    with pytest.raises(ValueError, match="candidates must hold one configuration"):
        tuner.add_candidates([])
    with pytest.raises(ValueError, match="refit must be one of"):
        _tuner(bundle, synthetic, refit="yes")
    tuner.save_history(tmp_path / "h.json")
    content = json.loads((tmp_path / "h.json").read_text())
    content["space"] = content["space"][1:]
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"other.json: a history of another search"):
        tuner.load_history(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracies": [45.0]}, r"runs\[0\], accuracies\[0\] must be a fraction"),
        (
            {"accuracies": [float("nan")]},
            r"runs\[0\], accuracies\[0\] must be a fraction",
        ),
        ({"seconds": [-1.0]}, r"runs\[0\], seconds\[0\] must be a positive number"),
        ({"seconds": []}, r"runs\[0\]: .* got 1 accuracies and 0 seconds"),
        ({"id": 999}, r"runs\[0\]: id must be the number of a candidate, got 999"),
    ],
)
def test_damaged_history_is_refused(bundle, synthetic, tmp_path, change, message):
    tuner = _tuner(bundle, synthetic)
    tuner.observe(tuner.suggest(), 0.4, 1.0)
    tuner.save_history(tmp_path / "h.json")
    content = json.loads((tmp_path / "h.json").read_text())
    content["runs"][0] |= change
    (tmp_path / "h.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="h.json, " + message):
        tuner.load_history(tmp_path / "h.json")
    assert tuner.best[1] == 0.4
    (tmp_path / "h.json").write_text("{")
    with pytest.raises(ValueError, match=r"h.json: cannot be read as json"):
        tuner.load_history(tmp_path / "h.json")


def test_history_resumes(bundle, synthetic, tmp_path):
    whole = _tuner(bundle, synthetic)
    half = _tuner(bundle, synthetic)
    for tuner in (whole, half):
        for _ in range(4):
            trial = tuner.suggest()
            tuner.observe(trial, _train(trial), 5.0)
    half.save_history(tmp_path / "history.json")
    resumed = _tuner(bundle, synthetic, seed=9)
    resumed.load_history(tmp_path / "history.json")
    for _ in range(4):
        a, b = whole.suggest(), resumed.suggest()
        assert (a.id, a.epoch) == (b.id, b.epoch)
        whole.observe(a, _train(a), 5.0)
        resumed.observe(b, _train(b), 5.0)


def test_stopping(bundle, synthetic):
    tuner = _tuner(bundle, synthetic, stop_below=0.999)
    assert not tuner.should_stop
    tuner.observe(tuner.suggest(), 0.9, 1.0)
    assert tuner.should_stop
    patient = _tuner(bundle, synthetic, stop_below=0.0)
    patient.observe(patient.suggest(), 0.9, 1.0)
    assert not patient.should_stop


def test_bundle_survives_the_disk(bundle, synthetic, tmp_path):
    bundle.save(tmp_path)
    loaded = finetune.Surrogates.load(tmp_path)
    assert loaded.space == bundle.space and loaded.card == json.loads(
        json.dumps(bundle.card)
    )
    a, b = _tuner(bundle, synthetic), _tuner(loaded, synthetic)
    for tuner in (a, b):
        trial = tuner.suggest()
        tuner.observe(trial, 0.3, 1.0)
    np.testing.assert_array_equal(a.predict(3), b.predict(3))
    assert a.recommend(top=3) == b.recommend(top=3)
    with pytest.raises(ValueError, match="python -m finetune fit"):
        finetune.Surrogates.load(tmp_path / "nothing")


def test_zero_shot_ranks_an_unseen_dataset(bundle, synthetic):
    for i in (6, 7):
        runs = synthetic.dataset == i
        best = np.nanmax(synthetic.curves[runs], 1)
        score = bundle.learned.zero_shot.score(
            synthetic.vectors[runs], synthetic.meta_features[i]
        )
        assert best[np.argsort(-np.asarray(score))[:5]].mean() > np.quantile(best, 0.7)


def test_every_input_changes_a_prediction(bundle, synthetic):
    surrogate = bundle.learned.performance
    weights = jax.tree.map(lambda x: x[0], surrogate.weights)
    history = jax.jit(history_features)(jnp.linspace(0.1, 0.5, 20))[4]

    @jax.jit
    def predict(vector, meta, history):
        inputs = surrogate.encoder(vector, meta)
        prior = apply_member(surrogate, weights, inputs, history, 4, 8)
        return prior.mean

    # a run in which nothing is absent
    row = np.flatnonzero(~np.isnan(synthetic.vectors).any(1))[0]
    args = (
        jnp.asarray(synthetic.vectors[row]),
        jnp.asarray(synthetic.meta_features[0]),
        history,
    )
    base = predict(*args)
    for position, values in enumerate(args):
        for i in range(len(values)):
            if position == 1 and i >= 2:
                continue  # resolution and channels are the same in all datasets
            changed = values.at[i].add(0.05 * (1 + abs(values[i])))
            new = predict(*args[:position], changed, *args[position + 1 :])
            assert new != base, (position, i)
    absent = args[0].at[-1].set(jnp.nan)
    assert predict(absent, *args[1:]) != base


def test_meta_training_beats_persistence_on_unseen_datasets(bundle, synthetic):
    runs, vectors = make_runs(synthetic)
    surrogate = bundle.learned.performance
    inputs = surrogate.encoder(vectors, synthetic.meta_features[:, None, :])
    dataset = jnp.repeat(jnp.array([6, 7]), 1000)
    at = jax.jit(draw_examples, static_argnums=3)(
        jax.random.key(1), runs, dataset, synthetic.num_epochs
    )
    prior, truth = jax.jit(
        jax.vmap(lambda w: predict_examples(surrogate, w, inputs, runs, at))
    )(surrogate.weights)
    error = np.mean((prior.mean.mean(0) - truth[0]) ** 2)
    last = runs.history[at.dataset, at.run, at.start][:, 0]
    assert error < 0.7 * np.mean((last - truth[0]) ** 2)


def test_policy_beats_random_search(bundle, synthetic):
    tables = make_tables(synthetic)
    padded, _ = pad_runs(synthetic)
    grid = jnp.asarray([1000.0, 4000.0])
    replay = jax.jit(replay_fixed)
    keys = jax.random.split(jax.random.key(3), (synthetic.num_datasets, 20))
    blank = jnp.zeros(synthetic.num_datasets)
    chance = simulate(random_search, keys, blank, tables, grid)
    for i in (6, 7):  # not seen in meta-training
        regret = replay(
            jax.random.key(0),
            bundle.learned.performance,
            bundle.learned.cost,
            padded["vectors"][i],
            synthetic.meta_features[i],
            jax.tree.map(lambda x, i=i: x[i], tables),
            grid,
        )
        assert regret[0].mean() < 0.8 * chance[i].mean()


def test_seeds_share_no_member(bundle):
    one, two = split_seeds(bundle, 2)
    whole = bundle.learned.performance.weights["log_ard"]
    for i, seed in enumerate((one, two)):
        found = seed.learned.performance.weights["log_ard"]
        np.testing.assert_array_equal(found, whole[i : i + 1])
    assert len(one.learned.zero_shot.weights["Dense_0"]["bias"]) == 1


def test_shipped_surrogates():
    tuner = finetune.Tuner.load(meta_features=[5_000, 20, 128, 3], num_candidates=200)
    assert len(tuner.surrogates.card["datasets"]) == 21
    assert tuner.num_epochs == 50
    # 30 % of its runs probe linearly for one epoch and end at a few percent
    assert all(not c["linear_probing"] for c in tuner.recommend(top=5))
    trial = tuner.suggest()
    tuner.observe(trial, 0.3, 60.0)
    assert tuner.suggest().epoch in (1, 2)


def test_command_line_says_what_is_wrong(tmp_path):
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "finetune",
            "fit",
            "--data",
            str(tmp_path),
            "--out",
            "x",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode != 0
    assert "expected config.csv" in found.stderr and "Traceback" not in found.stderr

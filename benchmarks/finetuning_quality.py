"""How good and how fast the surrogates are; the table of language models."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import curve_fit

from finetune import (
    Categorical,
    Float,
    MetaDataset,
    SearchSpace,
    Surrogates,
    TrainConfig,
    gp,
)
from finetune import reference as ref
from finetune.in_context import predict_in_context, train_in_context
from finetune.refit import History, RefitConfig, history_evidence, refit
from finetune.surrogate import Surrogate, apply_member
from finetune.training import Examples, Runs, make_runs, meta_train, predict_examples

NUM_CONTEXT, NUM_QUERY = 32, 32
BINS = {"none": (0, 0), "1-3": (1, 3), "4-10": (4, 10), "11+": (11, 49)}


def _draw(key, runs: Runs, dataset, num_epochs: int) -> Examples:
    """Draw runs and next epochs as the reference's validation does."""
    run_key, epoch_key = jax.random.split(key)
    size = (NUM_CONTEXT + NUM_QUERY,)
    run = jax.random.randint(run_key, size, 0, runs.count[dataset])
    epoch = jax.random.randint(epoch_key, size, 1, num_epochs)
    epoch = jnp.minimum(epoch, runs.lengths[dataset, run])
    return Examples(jnp.full(size, dataset), run, epoch - 1, epoch)


def surrogate_quality(
    bundles: Sequence[Surrogates], data: MetaDataset, num_draws: int = 50
) -> dict[str, dict[str, dict[str, float]]]:
    """Error on unseen datasets by history length, against persistence.

    For each dataset ``num_draws`` times 32 examples are conditioned on (N2) and the
    next epoch of 32 others is predicted. Members are used as one ensemble.

    Returns:
        ``[method][bin]["mse" | "nll" | "count"]``, bins by history length.
    """
    runs, vectors = make_runs(data)
    context, query = slice(0, NUM_CONTEXT), slice(NUM_CONTEXT, None)
    has_reference = data.num_epochs == ref.NUM_EPOCHS and all(
        b.learned.reference_weights for b in bundles
    )

    def evaluate(learned, inputs, reference_inputs, meta, dataset, key):
        at = _draw(key, runs, dataset, data.num_epochs)
        truth = runs.curves[dataset, at.run, at.target - 1]
        surrogate = learned.performance

        def member(weights, meta_evidence):
            prior, _ = predict_examples(surrogate, weights, inputs, runs, at)
            own = gp.gather_evidence(
                prior.features[context],
                (truth - prior.mean)[context],
                prior.noise[context],
                jnp.ones(NUM_CONTEXT),
            )
            found = []
            for evidence in (own, meta_evidence):
                shift, var = gp.predict(
                    evidence, jnp.exp(weights["log_ard"]), prior.features[query]
                )
                mean, noise = prior.mean[query] + shift, prior.noise[query]
                found.append((mean, var + noise))
            return found

        both = jax.vmap(member)(surrogate.weights, surrogate.evidence)
        last = jnp.where(
            at.start > 0, runs.curves[dataset, at.run, jnp.maximum(at.start - 1, 0)], 0
        )
        rows = {}
        for name, (mean, var) in zip(
            ("no_refit_history", "no_refit_meta"), both, strict=True
        ):
            total = var.mean(0) + mean.var(0)
            error = (truth[query] - mean.mean(0)) ** 2
            nll = 0.5 * (error / total + jnp.log(2 * jnp.pi * total))
            rows[name] = (error, nll)
        rows["persistence"] = ((truth - last)[query] ** 2, jnp.full(NUM_QUERY, jnp.nan))
        if has_reference:
            features = ref.reference_features(
                learned.reference_weights,
                reference_inputs[at.run],
                at.target / ref.NUM_EPOCHS,
                ref.cut_curves(runs.curves[dataset, at.run], at.target),
                jnp.broadcast_to(meta / 1000, (len(at.run), 4)),
            )
            mean, std = ref.reference_posterior(
                features[context],
                truth[context],
                jnp.ones(NUM_CONTEXT),
                features[query],
                ref.gp_parameters(learned.reference_weights),
            )
            error = (truth[query] - mean) ** 2
            nll = 0.5 * (error / std**2 + jnp.log(2 * jnp.pi * std**2))
            rows["quick_tune_reference"] = (error, nll)
        return rows, at.start[query]

    @jax.jit
    def over_keys(learned, inputs, scaled, meta, dataset, keys):
        return jax.lax.map(
            lambda key: evaluate(learned, inputs, scaled, meta, dataset, key), keys
        )

    found, starts = {}, []
    for i, bundle in enumerate(bundles):
        inputs = bundle.learned.performance.encoder(
            vectors, data.meta_features[:, None, :]
        )
        scaled = bundle.learned.reference_scaling(jnp.asarray(vectors[i]))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(11), i), num_draws)
        rows, start = over_keys(
            bundle.learned, inputs, scaled, data.meta_features[i], jnp.asarray(i), keys
        )
        starts.append(np.asarray(start).ravel())
        for name, (error, nll) in rows.items():
            found.setdefault(name, []).append(
                (np.asarray(error).ravel(), np.asarray(nll).ravel())
            )
    start = np.concatenate(starts)
    return {
        name: _by_length(start, *map(np.concatenate, zip(*rows, strict=True)))
        for name, rows in found.items()
    }


def _by_length(start: np.ndarray, error: np.ndarray, nll: np.ndarray) -> dict:
    """Average by history length; a method without density has no "nll"."""
    summary = {}
    for label, (low, high) in {"all": (0, 10**9), **BINS}.items():
        inside = (start >= low) & (start <= high)
        if inside.any():
            summary[label] = {
                "mse": float(error[inside].mean()),
                "count": int(inside.sum()),
            }
            if np.isfinite(nll).all():
                summary[label]["nll"] = float(nll[inside].mean())
    return summary


def in_context_quality(
    data: MetaDataset,
    train: Sequence[Sequence[int]],
    held_out: Sequence[Sequence[int]],
    num_draws: int = 50,
) -> dict[str, dict[str, float]]:
    """Meta-train the in-context surrogate and measure it on the same draws."""
    config = TrainConfig(learning_rate=1e-3)
    models = train_in_context(jax.random.key(0), data, config, train)
    runs, vectors = make_runs(data)

    @jax.jit
    def over_keys(model, inputs, dataset, keys):
        def one(key):
            at = _draw(key, runs, dataset, data.num_epochs)
            mean, var, truth = jax.vmap(
                lambda w: predict_in_context(
                    model, w, inputs, runs, at, NUM_CONTEXT, NUM_CONTEXT
                )
            )(model.weights)
            total = var.mean(0) + mean.var(0)
            error = (truth[0] - mean.mean(0)) ** 2
            nll = 0.5 * (error / total + jnp.log(2 * jnp.pi * total))
            return at.start[NUM_CONTEXT:], error, nll

        return jax.lax.map(one, keys)

    found = []
    for model, datasets in zip(models, held_out, strict=True):
        inputs = model.encoder(vectors, data.meta_features[:, None, :])
        for i in datasets:
            keys = jax.random.split(
                jax.random.fold_in(jax.random.key(11), i), num_draws
            )
            rows = over_keys(model, inputs, jnp.asarray(i), keys)
            found.append([np.asarray(x).ravel() for x in rows])
    return _by_length(*map(np.concatenate, zip(*found, strict=True)))


def _cpu_seconds(function, *args, repeats: int = 10) -> float:
    """Median CPU-seconds of a call, after one that compiles."""
    jax.block_until_ready(function(*args))
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(function(*args))
        spent.append(time.process_time() - start)
    return float(np.median(spent))


def measure_timings(
    data: MetaDataset,
    surrogate: Surrogate,
    num_members: int = 3,
    with_training: bool = True,
) -> dict[str, float]:
    """CPU-seconds of the operations that Quick-Tune's timings are given for."""
    members = jax.tree.map(
        lambda x: x[:num_members], (surrogate.weights, surrogate.evidence)
    )
    surrogate = surrogate.replace(weights=members[0], evidence=members[1])
    runs, _ = make_runs(data)
    num_rows, num_candidates = 500, 1000
    random = np.random.default_rng(0)
    row = random.integers(0, data.num_runs, num_candidates)
    inputs = surrogate.encoder(data.vectors[row], data.meta_features[data.dataset[row]])
    start = jnp.asarray(random.integers(0, data.num_epochs, num_candidates))
    history = runs.history[0, 0][start]
    keep = slice(0, num_rows)
    rows = History(
        inputs=inputs[keep],
        history=history[keep],
        start=start[keep],
        target=start[keep] + 1,
        truth=jnp.asarray(random.uniform(0, 1, num_rows), jnp.float32),
        mask=jnp.ones(num_rows),
    )

    @jax.jit
    def predict(surrogate, rows):
        def member(weights):
            evidence = history_evidence(surrogate, weights, rows)
            prior = apply_member(surrogate, weights, inputs, history, start, start + 1)
            ard = jnp.exp(weights["log_ard"])
            shift, var = gp.predict(evidence, ard, prior.features)
            return prior.mean + shift, prior.noise + var

        return jax.vmap(member)(surrogate.weights)

    found = {
        "predict_1000_candidates_history_500": _cpu_seconds(predict, surrogate, rows),
        "refit_50_steps_history_500": _cpu_seconds(
            jax.jit(lambda s, r: refit(s, r, RefitConfig())), surrogate, rows, repeats=3
        ),
    }
    if not with_training:
        return found
    config = TrainConfig(
        num_steps=10_000, num_tasks=1, num_context=16, num_query=16, num_members=1
    )
    for name, seconds in _time_training(data, config).items():
        found[name] = seconds
    return found


def _time_training(data: MetaDataset, config: TrainConfig) -> dict[str, float]:
    """CPU-seconds of 10,000 steps of minibatch 32, without compilation."""
    from finetune.encoding import fit_encoder
    from finetune.training import _train_member

    runs, vectors = make_runs(data)
    encoder = fit_encoder(data.space, data.vectors, data.meta_features)
    inputs = encoder(vectors, data.meta_features[:, None, :])
    blank = Surrogate({}, encoder, None, jnp.zeros(()), jnp.ones(()), data.num_epochs)
    weights = jnp.full(data.num_datasets, 1 / data.num_datasets)

    def ours(key):
        return _train_member(key, blank, inputs, runs, weights, config)

    found = {
        "meta_train_10000_steps_of_32": _cpu_seconds(
            jax.jit(ours), jax.random.key(0), repeats=1
        )
    }
    if data.num_epochs == ref.NUM_EPOCHS:
        scaled = ref.fit_reference_scaling(data)(jnp.asarray(vectors))
        found["meta_train_10000_steps_of_32_reference"] = _cpu_seconds(
            jax.jit(
                lambda key: ref.train_reference(
                    key,
                    scaled,
                    runs.curves,
                    runs.lengths,
                    jnp.asarray(data.meta_features),
                    runs.count,
                    weights,
                )
            ),
            jax.random.key(0),
            repeats=1,
        )
    return found


def read_language_models(folder: Path) -> MetaDataset:
    """Read loss against training-set size of 30 LLMs on three tasks.

    The 15 sizes take the place of epochs, exp(-loss) that of accuracy, the size that
    of seconds; the only hyperparameters are family and number of parameters.
    """
    tables = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            tables[path.stem] = list(csv.DictReader(file))
    sizes = [c for c in next(iter(tables.values()))[0] if c.isdigit()]
    families = sorted({row["family"] for rows in tables.values() for row in rows})
    space = SearchSpace(
        (
            Categorical("family", tuple(families)),
            Float("num_parameters", 1e7, 1e12, log=True),
        )
    )
    vectors, curves, dataset = [], [], []
    for i, rows in enumerate(tables.values()):
        for row in rows:
            # some sizes occur twice: a relative 1e-4 keeps the models apart
            size = float(row["size"]) * (1 + 1e-4 * len(vectors))
            config = {"family": row["family"], "num_parameters": size}
            vectors.append(space.to_vector(config))
            curves.append([np.exp(-float(row[s])) for s in sizes])
            dataset.append(i)
    curves = np.asarray(curves)
    seconds = np.broadcast_to(np.maximum(np.array(sizes, float), 100), curves.shape)
    meta = np.array(
        [curves[np.array(dataset) == i, 0].mean() for i in range(len(tables))]
    )
    return MetaDataset(
        space,
        np.stack(vectors),
        curves,
        seconds,
        np.asarray(dataset),
        tuple(tables),
        meta[:, None],
        ("mean_initial_likelihood",),
        "llm_finetune_scaling",
    )


def _power_law(sizes: np.ndarray, losses: np.ndarray, target: float) -> float:
    """Fit loss = floor + scale * size^-exponent and extrapolate."""

    def law(log_size, floor, log_scale, exponent):
        return floor + np.exp(log_scale - exponent * log_size)

    logs = np.log(sizes)
    try:
        found, _ = curve_fit(
            law,
            logs,
            losses,
            p0=(0.5 * losses[-1], np.log(0.5 * losses[0]), 0.1),
            bounds=([0, -10, 0], [losses[-1], 10, 2]),
            maxfev=5000,
        )
    except RuntimeError:
        return float(losses[-1])
    return float(law(np.log(target), *found))


def language_model_table(folder: Path, num_members: int = 5) -> dict:
    """Predict the loss at the largest size from the first k sizes, per left-out task.

    Returns:
        ``[task][k][method]`` with root mean squared error and Pearson correlation.
    """
    data = read_language_models(folder)
    sizes = np.maximum(data.costs[0], 100)
    num_sizes = data.num_epochs
    folds = [
        [j for j in range(data.num_datasets) if j != i]
        for i in range(data.num_datasets)
    ]
    config = TrainConfig(
        num_steps=1000, num_tasks=2, num_context=8, num_members=num_members
    )
    models = meta_train(jax.random.key(5), data, config, folds)
    runs, vectors = make_runs(data)
    found: dict = {}
    for i, name in enumerate(data.dataset_names):
        losses = -np.log(np.asarray(runs.curves[i]))
        truth = losses[:, -1]
        inputs = models[i].encoder(vectors, data.meta_features[:, None, :])
        found[name] = {}
        for k in (4, 6, 8, 10, 12):
            num = len(truth)
            at = Examples(
                jnp.full(num, i),
                jnp.arange(num),
                jnp.full(num, k),
                jnp.full(num, num_sizes),
            )
            mean = jax.vmap(
                lambda w, m=models[i], x=inputs, a=at: (
                    predict_examples(m, w, x, runs, a)[0].mean
                )
            )(models[i].weights)
            likelihood = np.clip(np.asarray(mean.mean(0)), 1e-4, 1)
            known = slice(1, k)  # size 0 has no logarithm
            rows = {
                "ours": -np.log(likelihood),
                "power_law": np.array(
                    [_power_law(sizes[known], row[known], sizes[-1]) for row in losses]
                ),
                "persistence": losses[:, k - 1],
            }
            found[name][str(k)] = {
                method: {
                    "rmse": float(np.sqrt(np.mean((guess - truth) ** 2))),
                    "pearson": float(np.corrcoef(guess, truth)[0, 1]),
                }
                for method, guess in rows.items()
            }
    return found

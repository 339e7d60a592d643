"""How good the surrogates and the zero-shot choices are on unseen datasets."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks.finetuning.arms import has_reference
from benchmarks.finetuning.report import interval, ratio_interval
from finetune import MetaDataset, Surrogates, gp
from finetune import reference as ref
from finetune.training import Examples, Runs, make_runs, predict_examples
from finetune.zero_shot import fit_single_best, per_dataset_scores

NUM_CONTEXT, NUM_QUERY = 32, 32
BINS = {"none": (0, 0), "1-3": (1, 3), "4-10": (4, 10), "11+": (11, 10**9)}


def _draw(key, runs: Runs, dataset, num_epochs: int) -> Examples:
    """Draw runs and next epochs as the reference's validation does."""
    run_key, epoch_key = jax.random.split(key)
    size = (NUM_CONTEXT + NUM_QUERY,)
    run = jax.random.randint(run_key, size, 0, runs.count[dataset])
    epoch = jax.random.randint(epoch_key, size, 1, num_epochs)
    epoch = jnp.minimum(epoch, runs.lengths[dataset, run])
    return Examples(jnp.full(size, dataset), run, epoch - 1, epoch)


def surrogate_errors(
    seeds: Sequence[Sequence[Surrogates]], data: MetaDataset, num_draws: int = 50
) -> dict[str, np.ndarray]:
    """Errors on unseen datasets, of ours, the reference and persistence.

    For each dataset ``num_draws`` times 32 examples are conditioned on (N2) and the
    next epoch of 32 others is predicted. Members are used as one ensemble.

    Args:
        seeds: For each dataset one bundle per seed, none of which has seen it.
        data: The datasets.
        num_draws: Of examples.

    Returns:
        ``<method>/mse`` and, where there is a density, ``<method>/nll``: of each query,
        ``[D, S, Q]``; ``known``: epochs known of it, ``[D, Q]``.
    """
    runs, vectors = make_runs(data)
    context, query = slice(0, NUM_CONTEXT), slice(NUM_CONTEXT, None)
    with_reference = has_reference(seeds)

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
        if with_reference:
            features = ref.reference_features(
                learned.reference_weights,
                reference_inputs[at.run],
                *ref.ask_epoch(runs.curves[dataset, at.run], at.target),
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

    found: dict = {}
    for i, bundles in enumerate(tqdm(seeds, "surrogate errors")):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(11), i), num_draws)
        rows: dict = {}
        for bundle in bundles:
            learned = bundle.learned
            inputs = learned.performance.encoder(
                vectors, data.meta_features[:, None, :]
            )
            scaled = learned.reference_scaling(jnp.asarray(vectors[i]))
            errors, known = over_keys(
                learned, inputs, scaled, data.meta_features[i], jnp.asarray(i), keys
            )
            for name, (error, nll) in errors.items():
                rows.setdefault(f"{name}/mse", []).append(np.asarray(error).ravel())
                if np.isfinite(nll).all():
                    rows.setdefault(f"{name}/nll", []).append(np.asarray(nll).ravel())
        for name, values in rows.items():
            found.setdefault(name, []).append(np.stack(values))
        found.setdefault("known", []).append(np.asarray(known).ravel())
    return {name: np.stack(values) for name, values in found.items()}


def by_length(errors: dict[str, np.ndarray]) -> dict[str, dict]:
    """Average errors by history length, with 95 % intervals over datasets.

    Returns:
        ``[method][bin]["mse" | "nll" | "mse_interval" | "nll_interval" | "count"]``,
        means over seeds.
    """
    errors = dict(errors)
    known = errors.pop("known")
    means = {name: values.mean(1) for name, values in errors.items()}  # [D, Q]
    summary: dict = {}
    for label, (low, high) in {"all": (0, 10**9), **BINS}.items():
        inside = (known >= low) & (known <= high)
        if not inside.any():
            continue
        for name, values in means.items():
            method, measure = name.split("/")
            total, count = (values * inside).sum(1), inside.sum(1)
            row = summary.setdefault(method, {}).setdefault(label, {})
            row[measure] = float(total.sum() / count.sum())
            row[f"{measure}_interval"] = ratio_interval(total, count)
            row["count"] = int(count.sum())
    return summary


def zero_shot_quality(
    data: MetaDataset, seeds: Sequence[Sequence[Surrogates]], train: list | None
) -> dict:
    """Regret of the best of the top 1 and top 5 choices on unseen datasets.

    The regret here is of the best accuracy of a fully trained run; means over seeds.

    Args:
        data: The datasets.
        seeds: For each dataset one bundle per seed, none of which has seen it.
        train: For each dataset those that its bundles learned from; None leaves out
            the regressions that need their runs.
    """
    rows: dict = {}
    for i, bundles in enumerate(seeds):
        runs = data.dataset == i
        best = np.nanmax(data.curves[runs], 1)
        worst = np.nanmin(data.curves[runs])
        vectors, meta = data.vectors[runs], data.meta_features[i]
        scores: dict = {
            "zero_shot": [b.learned.zero_shot.score(vectors, meta) for b in bundles],
            "single_best": [bundles[0].learned.single_best.score(vectors, meta)],
        }
        if train is not None:
            past = data.subset(train[i])
            scores["per_dataset_mean"] = [per_dataset_scores(past, vectors, meta)]
            scores["nearest_datasets"] = [per_dataset_scores(past, vectors, meta, 3)]
            smooth = fit_single_best(past, 1e4)
            scores["single_best_smooth"] = [smooth.score(vectors, meta)]
        draws = np.random.default_rng(i)
        scores["random"] = [draws.uniform(size=len(best)) for _ in range(1000)]
        for name, found in scores.items():
            order = np.argsort(-np.asarray(found), axis=1)  # [S, R]
            for top in (1, 5):
                regret = best.max() - best[order[:, :top]].max(1).mean()
                rows.setdefault(name, {}).setdefault(f"top_{top}", []).append(
                    regret / max(best.max() - worst, 1e-6)
                )
    return {
        name: {
            top: {"mean": float(np.mean(v)), "interval": interval(np.array(v))}
            for top, v in tops.items()
        }
        for name, tops in rows.items()
    }

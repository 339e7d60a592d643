"""Pictures of `python -m benchmarks.finetuning`."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from finetune import MetaDataset, Surrogates
from finetune.encoding import history_features
from finetune.surrogate import apply_member


def draw_over_time(traces: dict[str, np.ndarray], hours: np.ndarray, out: Path) -> None:
    """Draw regret and rank over time.

    Args:
        traces: Regret ``[D, G]`` by method, averaged over seeds.
        hours: ``[G]``.
        out: Folder.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from scipy.stats import rankdata

    stacked = np.stack(list(traces.values()))
    ranks = rankdata(np.round(stacked, 6), axis=0)
    for label, values in (("normalised regret", stacked), ("mean rank", ranks)):
        figure, axes = plt.subplots(figsize=(7, 4.5))
        for name, rows in zip(traces, values, strict=True):
            mean = rows.mean(0)
            error = 1.96 * rows.std(0) / np.sqrt(len(rows))
            axes.plot(hours, mean, label=name)
            axes.fill_between(hours, mean - error, mean + error, alpha=0.08)
        axes.set_xscale("log")
        axes.set_xlabel("hours of finetuning")
        axes.set_ylabel(label)
        axes.legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(out / f"{label.split()[-1]}_over_time.png", dpi=150)
        plt.close(figure)


def draw_curves(bundle: Surrogates, data: MetaDataset, dataset: int, out: Path) -> None:
    """Draw predicted curves with bands for some runs of an unseen dataset."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    surrogate = bundle.learned.performance
    lengths = np.where(data.dataset == dataset, data.lengths, 0)
    longest = np.flatnonzero(lengths == lengths.max())
    runs = longest[np.linspace(0, len(longest) - 1, 6).astype(int)]
    num_epochs = data.num_epochs
    figure, all_axes = plt.subplots(2, 3, figsize=(9, 5), sharey=True)
    for run, axes in zip(runs, all_axes.ravel(), strict=True):
        curve = np.nan_to_num(data.curves[run])
        axes.plot(np.arange(1, num_epochs + 1), data.curves[run], "k.", ms=3)
        inputs = surrogate.encoder(data.vectors[run], data.meta_features[dataset])
        features = history_features(jnp.asarray(curve))
        for start in sorted({0, num_epochs // 10, num_epochs // 2}):
            target = jnp.arange(start + 1, num_epochs + 1)

            def member(weights, start=start, target=target, x=inputs, f=features):
                shape = (len(target),)
                return apply_member(
                    surrogate,
                    weights,
                    jnp.broadcast_to(x, (*shape, x.shape[-1])),
                    jnp.broadcast_to(f[start], (*shape, f.shape[-1])),
                    jnp.full(shape, start),
                    target,
                )

            prior = jax.vmap(member)(surrogate.weights)
            ard = jnp.exp(surrogate.weights["log_ard"])[:, None]
            var = prior.noise + (prior.features**2 * ard).sum(-1)
            mean = np.asarray(prior.mean.mean(0))
            std = np.sqrt(np.asarray(var.mean(0) + prior.mean.var(0)))
            axes.plot(target, mean, lw=1, label=f"after {start} epochs")
            axes.fill_between(target, mean - 2 * std, mean + 2 * std, alpha=0.15)
        axes.set_ylim(-0.05, 1.05)
    all_axes[0, 0].legend(fontsize=7)
    figure.supxlabel("epoch")
    figure.supylabel("validation accuracy")
    figure.suptitle(f"{data.dataset_names[dataset]}, not seen in meta-training")
    figure.tight_layout()
    figure.savefig(out / "predicted_curves.png", dpi=150)
    plt.close(figure)

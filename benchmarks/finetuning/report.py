"""Means, intervals over datasets, ranks, and the table they are printed as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import bootstrap, rankdata

from benchmarks.finetuning.arms import HOURS, METHODS, at_hours


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over datasets ``[D]``."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    found = bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)


def ratio_interval(total: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of ``sum(total) / sum(count)`` over datasets ``[D]``."""
    draws = np.random.default_rng(0).integers(0, len(total), (5000, len(total)))
    means = total[draws].sum(1) / np.maximum(count[draws].sum(1), 1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def summarise(regret: dict[str, np.ndarray]) -> dict:
    """Mean regret and rank per method and hour, with intervals over datasets.

    Args:
        regret: ``[D, seeds, overheads, G]`` by method.
    """
    summary: dict = {}
    for label, column in (("regret", 0), ("regret_overhead_counted", -1)):
        means, intervals = {}, {}
        for name, values in regret.items():
            per_dataset = at_hours(values[:, :, column]).mean(1)
            hours = dict(zip(HOURS, per_dataset.T, strict=True))
            means[name] = {f"{h}h": float(v.mean()) for h, v in hours.items()}
            intervals[name] = {f"{h}h": interval(v) for h, v in hours.items()}
        summary[label] = means
        summary[f"{label}_interval"] = intervals
    per_dataset = np.stack(
        [at_hours(v[:, :, 0]).mean(1) for v in regret.values()]
    )  # [methods, D, hours]
    ranks = rankdata(np.round(per_dataset, 6), axis=0)
    summary["rank"], summary["rank_interval"] = {}, {}
    for name, rows in zip(regret, ranks, strict=True):
        hours = dict(zip(HOURS, rows.T, strict=True))
        summary["rank"][name] = {f"{h}h": float(v.mean()) for h, v in hours.items()}
        summary["rank_interval"][name] = {
            f"{h}h": interval(v) for h, v in hours.items()
        }
    summary["num_seeds"] = {name: values.shape[1] for name, values in regret.items()}
    return summary


def compare_refit(regret: dict[str, np.ndarray]) -> dict:
    """Answer "is no refit better?": mean of refit minus no refit, paired by dataset.

    Positive: no refit is better.
    """
    found: dict = {}
    for other in ("no_refit_meta", "no_refit_history"):
        for label, column in (("overhead_not_counted", 0), ("overhead_counted", -1)):
            difference = at_hours(regret["refit"][:, :, column]).mean(1) - at_hours(
                regret[other][:, :, column]
            ).mean(1)
            found.setdefault(other, {})[label] = {
                f"{h}h": {"mean": float(v.mean()), "interval": interval(v)}
                for h, v in zip(HOURS, difference.T, strict=True)
            }
    return found


def _cell(mean: float, bounds: tuple[float, float], digits: int = 3) -> str:
    low, high = bounds
    return f"{mean:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def regret_table(summary: dict) -> str:
    """The table of regrets as Markdown."""
    lines = ["| method | seeds | 1 h | 4 h | 8 h | 16 h | rank at 16 h |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in METHODS:
        if name not in summary["regret"]:
            continue
        cells = [
            _cell(
                summary["regret"][name][f"{hour}h"],
                summary["regret_interval"][name][f"{hour}h"],
            )
            for hour in HOURS
        ]
        rank = _cell(
            summary["rank"][name]["16h"], summary["rank_interval"][name]["16h"], 2
        )
        seeds = summary["num_seeds"][name]
        lines.append(f"| {name} | {seeds} | {' | '.join(cells)} | {rank} |")
    return "\n".join(lines)


def quality_table(quality: dict[str, dict]) -> str:
    """The table of surrogate errors as Markdown."""
    bins = list(next(iter(quality.values())))
    lines = []
    for measure, digits in (("mse", 4), ("nll", 2)):
        lines.append(f"| {measure}, by known epochs | {' | '.join(bins)} |")
        lines.append("|---" * (len(bins) + 1) + "|")
        for name, rows in quality.items():
            if all(measure in rows[b] for b in bins if b in rows):
                cells = [
                    _cell(rows[b][measure], rows[b][f"{measure}_interval"], digits)
                    for b in bins
                ]
                lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def refit_table(comparison: dict) -> str:
    """The table of `compare_refit` as Markdown."""
    lines = ["| refit minus | 1 h | 4 h | 8 h | 16 h |", "|---|---|---|---|---|"]
    for name, labels in comparison.items():
        for label, hours in labels.items():
            cells = [_cell(v["mean"], v["interval"]) for v in hours.values()]
            lines.append(f"| {name}, {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def choice_table(choices: dict) -> str:
    """The table of single choices as Markdown."""
    lines = ["| method | top 1 | top 5 |", "|---|---|---|"]
    for name, tops in choices.items():
        cells = [_cell(v["mean"], v["interval"]) for v in tops.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def language_table(tasks: dict) -> str:
    """The table of language models as Markdown: RMSE of the loss / correlation."""
    known = list(next(iter(tasks.values())))
    lines = [f"| task, method | {' | '.join(f'k = {k}' for k in known)} |"]
    lines.append("|---" * (len(known) + 1) + "|")
    for task, rows in tasks.items():
        for method in rows[known[0]]:
            cells = [
                f"{rows[k][method]['rmse']:.3f} / {rows[k][method]['pearson']:.2f}"
                for k in known
            ]
            lines.append(f"| {task}, {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_tables(summary: dict, path: Path) -> None:
    """Write the tables as Markdown, and print them."""
    parts = ["Normalised regret", regret_table(summary)]
    if "without_linear_probing" in summary:
        parts.append("Normalised regret without the one-epoch linear-probing runs")
        parts.append(regret_table(summary["without_linear_probing"]))
    parts.append("Is no refit better? Where the difference is positive, it is")
    parts.append(refit_table(summary["is_no_refit_better"]))
    parts.append("Regret of one choice before any observation, trained fully")
    parts.append(choice_table(summary["zero_shot_choice"]))
    parts.append("Error of the surrogates on the next epoch of unseen datasets")
    parts.append(quality_table(summary["surrogate_quality"]).rstrip())
    if "language_models" in summary:
        parts.append("Language models: RMSE of the loss / correlation")
        parts.append(language_table(summary["language_models"]))
    if summary["cpu_seconds_of"]:
        parts.append("CPU-seconds")
        parts.append(
            "\n".join(f"* {k}: {v:.4f}" for k, v in summary["cpu_seconds_of"].items())
        )
    text = "\n\n".join(parts)
    path.write_text(text + "\n")
    print(text)

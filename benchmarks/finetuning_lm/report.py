"""What the comparison says, as numbers and as tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.finetuning.arms import HOURS, OURS, at_hours
from benchmarks.finetuning.report import choice_table, interval
from benchmarks.finetuning_lm.space import DEFAULT
from finetune import MetaDataset

METHODS = (
    "random",
    "default",
    "single_best",
    "zero_shot",
    "asha",
    "greedy_freeze_thaw",
    "quick_tune_reference",
    "freeze_thaw_bo",
    *OURS,
)
TITLES = {
    "random": "random search",
    "default": "default configuration, then random ones",
    "single_best": "single best, then down its list",
    "zero_shot": "zero-shot ranking, then down its list",
    "asha": "ASHA",
    "greedy_freeze_thaw": "greedy freeze-thaw",
    "quick_tune_reference": "Quick-Tune, reference, refits",
    "freeze_thaw_bo": "freeze-thaw BO of the task alone, refits",
    "refit": "ours, refit",
    "no_refit_meta": "ours, no refit, meta points (N1)",
    "no_refit_history": "ours, no refit, own history (N2)",
}
OTHERS = ("zero_shot", "default", "freeze_thaw_bo", "quick_tune_reference", "refit")


def compare(regret: dict[str, np.ndarray]) -> dict:
    """Regret of the others minus that of ours without refit, paired by dataset.

    Positive: ours is better.
    """
    found: dict = {}
    for ours in [name for name in OURS[::-1] if name != "refit" and name in regret]:
        own = at_hours(regret[ours][:, :, 0]).mean(1)
        for other in [name for name in OTHERS if name in regret]:
            difference = at_hours(regret[other][:, :, 0]).mean(1) - own
            found.setdefault(ours, {})[other] = {
                f"{h}h": {"mean": float(v.mean()), "interval": interval(v)}
                for h, v in zip(HOURS, difference.T, strict=True)
            }
    return found


def describe(data: MetaDataset) -> dict:
    """What the runs of each dataset reach: best, default, shares that fail."""
    found = {}
    default = data.space.to_vector(DEFAULT)
    for i, name in enumerate(data.dataset_names):
        rows = data.dataset == i
        best = data.curves[rows].max(1)
        is_default = [
            np.array_equal(v, default, equal_nan=True) for v in data.vectors[rows]
        ]
        found[name] = {
            "best": float(best.max()),
            "default": float(best[is_default].max()),
            "median": float(np.median(best)),
            "share_below_a_tenth_of_best": float((best < 0.1 * best.max()).mean()),
        }
    return found


def _regret_table(summary: dict) -> str:
    lines = [
        f"| method | {' | '.join(f'{h} h' for h in HOURS)} | rank at {HOURS[-1]} h |"
    ]
    lines.append("|---" * (len(HOURS) + 2) + "|")
    for name in summary["regret"]:
        cells = []
        for hour in HOURS:
            low, high = summary["regret_interval"][name][f"{hour}h"]
            mean = summary["regret"][name][f"{hour}h"]
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        rank = summary["rank"][name][f"{HOURS[-1]}h"]
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} | {rank:.2f} |")
    return "\n".join(lines)


def _comparison_table(comparison: dict) -> str:
    lines = [f"| minus ours | {' | '.join(f'{h} h' for h in HOURS)} |"]
    lines.append("|---" * (len(HOURS) + 1) + "|")
    for ours, others in comparison.items():
        for other, hours in others.items():
            cells = [
                f"{v['mean']:+.3f} [{v['interval'][0]:+.3f}, {v['interval'][1]:+.3f}]"
                for v in hours.values()
            ]
            label = f"{TITLES[other]}, minus {TITLES[ours].split('(')[1][:2]}"
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _described_table(described: dict) -> str:
    columns = list(next(iter(described.values())))
    lines = [f"| dataset | {' | '.join(c.replace('_', ' ') for c in columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, row in described.items():
        lines.append(f"| {name} | {' | '.join(f'{v:.3f}' for v in row.values())} |")
    return "\n".join(lines)


def write_tables(summary: dict, path: Path) -> None:
    """Write the tables as Markdown, and print them."""
    parts = [
        "Exact match that the runs of the table reach",
        _described_table(summary["runs"]),
        "Normalised regret, mean over datasets",
        _regret_table(summary),
        "Regret of others minus ours, paired by dataset; positive: ours is better",
        _comparison_table(summary["comparison"]),
        "Regret of one choice before any observation, trained fully",
        choice_table(summary["zero_shot_choice"]),
    ]
    text = "\n\n".join(parts)
    path.write_text(text + "\n")
    print(text)

"""What the world model owes to its target, base, loss and prior: held-out tasks.

python -m benchmarks.oswm_ablation

Every row trains one small transformer for the same number of steps and is tested on
tasks that no training has seen: of our prior, and of the paper's. Beside it stands what
its closed-form base does alone: for each target the best model in the context; where
there is no base the transformer is alone. Errors
are geometric means over tasks of squared errors over the variance in the context, and
ratios have paired bootstrap intervals over tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from tqdm import tqdm

from benchmarks.shared import runtime
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from oswm.blended import QUICK_BLENDED
from oswm.closed_form import ClosedForm, Ridge
from oswm.model import TransformerModel
from oswm.network import NetworkConfig
from oswm.prior.default import draw_batch
from oswm.selection import LeaveOneOut
from oswm.training import (
    STEPS_PER_CALL,
    TransformerTraining,
    make_advance,
    paper_batch,
    start,
)
from oswm.unconditional import Unconditional
from oswm.validation import errors_of, held_out

SMALL = TransformerTraining(
    NetworkConfig(width=32, num_layers=2, num_hidden=32),
    num_context=96,
    num_query=32,
    learning_rate=3e-3,
)
_REPORT_SEED = 1
_NUM_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Row:
    """One ablation.

    Attributes:
        what: What is different from the first row.
        config: Settings.
        draw: Prior to train on.
        is_trained: Whether it is trained at all.
    """

    what: str
    config: TransformerTraining = SMALL
    draw: Callable = draw_batch
    is_trained: bool = True


def _with_head(head: str) -> TransformerTraining:
    return dataclasses.replace(
        SMALL, network=dataclasses.replace(SMALL.network, head=head)
    )


def _with_base(model: ClosedForm) -> TransformerTraining:
    """One model, nothing to blend."""
    network = dataclasses.replace(SMALL.network, num_models=1)
    return dataclasses.replace(SMALL, network=network, base=LeaveOneOut((model,)))


ROWS = {
    "ours": Row("residual over the blended models, mixture, our prior"),
    "untrained": Row("the blend that training starts from", is_trained=False),
    "choice": Row(
        "residual over the best model in the context", _with_base(QUICK_BLENDED)
    ),
    "bars": Row("bars instead of a mixture", config=_with_head("bars")),
    "squared error": Row(
        "the mean's error is the only loss",
        config=dataclasses.replace(SMALL, likelihood_weight=0.0, mean_weight=1.0),
    ),
    "likelihood": Row(
        "the likelihood is the only loss",
        config=dataclasses.replace(SMALL, mean_weight=0.0),
    ),
    "ridge": Row("residual over ridge regression", _with_base(Ridge())),
    "change": Row("no base: the change of the state", _with_base(Unconditional())),
    "absolute": Row(
        "no base: the next state, as in the paper",
        _with_base(Unconditional(absolute=True)),
    ),
    "paper's prior": Row("trained on the paper's prior", draw=paper_batch),
    "paper's prior, absolute": Row(
        "trained on the paper's prior, no base, the next state",
        _with_base(Unconditional(absolute=True)),
        draw=paper_batch,
    ),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the ablation.

    Attributes:
      rows: Which rows; all by default.
      steps: Training steps per row.
      tasks: Held-out tasks of each prior.
      out: Folder of the run; without it, the next numbered one under runs/.
      resume: Continue the run that --out holds.
      quick: Few steps and tasks: to see it run.
      cache: Keep compiled programs in the user's cache folder.
    """

    rows: tuple[str, ...] = tuple(ROWS)
    steps: int = 300
    tasks: int = 96
    out: Path | None = None
    resume: bool = False
    quick: bool = False
    cache: bool = True


def run(options: Options) -> dict[str, Any]:
    """Train and test the rows that are missing; returns the summary."""
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        raise SystemExit(f"error: rows: expected some of {', '.join(ROWS)}")
    if options.quick:
        options = dataclasses.replace(options, steps=2 * STEPS_PER_CALL, tasks=6)
    folder = options.out or next_run_folder(Path("runs") / "oswm_ablation")
    config = {"steps": options.steps, "tasks": options.tasks}
    with RunFolder(folder, config, resume=options.resume) as run_folder:
        rows = (run_folder.summary or {}).get("rows", {})
        data = {
            "ours": held_out(options.tasks, 96, 32, draw_batch, _REPORT_SEED),
            "paper's": held_out(options.tasks, 96, 32, paper_batch, _REPORT_SEED),
        }
        for name in tqdm(options.rows, "rows", disable=None):
            if name not in rows:
                rows[name] = measure(ROWS[name], options.steps, data)
                run_folder.write_json("summary.json", {**config, "rows": rows})
                print(_line(name, rows[name]), flush=True)
        table = make_table(rows)
        (run_folder.path / "table.md").write_text(table)
    print(table)
    return {**config, "rows": rows}


def measure(row: Row, steps: int, data: dict) -> dict[str, Any]:
    """Train one row, and test it and its base on each prior."""
    calls = max(1, steps // STEPS_PER_CALL)
    state = start(row.config, calls * STEPS_PER_CALL)
    if row.is_trained:
        advance = make_advance(row.config, calls * STEPS_PER_CALL, row.draw)
        for _ in tqdm(range(calls), row.what, leave=False, disable=None):
            state, _ = advance(state)
    weights, base = jax.device_get(state.weights), row.config.base
    model = TransformerModel(weights, row.config.network, base)
    found: dict[str, Any] = {"what": row.what}
    for prior, datasets in data.items():
        alone = np.maximum(errors_of(base, datasets), 1e-10)
        both = np.maximum(errors_of(model, datasets), 1e-10)
        ridge = np.maximum(errors_of(Ridge(), datasets), 1e-10)
        keep = np.isfinite(alone) & np.isfinite(both)
        alone, both, ridge = alone[keep], both[keep], ridge[keep]
        found[prior] = {
            "base": _geometric(alone),
            "both": _geometric(both),
            "both_over_base": _ratio(both / alone),
            "ridge": _geometric(ridge),
            "both_over_ridge": _ratio(both / ridge),
            "beats_ridge": float((both < ridge).mean()),
        }
    return found


def _geometric(errors: np.ndarray) -> float:
    return float(np.exp(np.log(errors).mean()))


def _ratio(ratios: np.ndarray) -> list[float]:
    """Geometric mean and its 95 % bootstrap interval."""
    logs = np.log(ratios)
    index = np.random.default_rng(0).integers(0, len(logs), (_NUM_RESAMPLES, len(logs)))
    low, high = np.quantile(logs[index].mean(1), [0.025, 0.975])
    return [float(np.exp(x)) for x in (logs.mean(), low, high)]


def _line(name: str, row: dict) -> str:
    ours = row["ours"]
    return (
        f"{name}: base {ours['base']:.2e}, with the transformer {ours['both']:.2e}, "
        f"better than ridge on {100 * ours['beats_ridge']:.0f} %"
    )


def make_table(rows: dict) -> str:
    """A Markdown table of all rows."""
    lines = [
        "| row | base alone | base and transformer | ratio to base | beats ridge "
        "| paper's prior: base | both |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        ours, paper = row["ours"], row["paper's"]
        ratio, low, high = ours["both_over_base"]
        lines.append(
            f"| {name}: {row['what']} | {ours['base']:.2e} | {ours['both']:.2e} "
            f"| {ratio:.2f} ({low:.2f} to {high:.2f}) "
            f"| {100 * ours['beats_ridge']:.0f} % "
            f"| {paper['base']:.2e} | {paper['both']:.2e} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    run(options)

"""Finetuning a language model: what chooses best, on datasets never seen?

    python -m benchmarks.finetuning_lm --out DIR [--resume] [--quick]

Leaves each dataset of the shipped table out in turn, learns from the other seven, and
replays every method on the one left out. Writes ``summary.json`` and ``tables.md``. A
run that was stopped goes on with ``--resume``.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
import tyro

from benchmarks.finetuning.arms import (
    BASELINES,
    OURS,
    at_hours,
    run_baselines,
    run_orders,
    run_ours,
    split_seeds,
)
from benchmarks.finetuning.quality import zero_shot_quality
from benchmarks.finetuning.report import summarise
from benchmarks.finetuning.stages import Stages, fingerprint
from benchmarks.finetuning_lm.arms import (
    run_default,
    run_freeze_thaw,
    run_reference,
    with_hours,
)
from benchmarks.finetuning_lm.report import METHODS, compare, describe, write_tables
from benchmarks.shared.runtime import use_compilation_cache
from finetune import (
    FitConfig,
    MetaDataset,
    MetaTrainConfig,
    RankingConfig,
    RunTable,
    Surrogates,
    fit_surrogates,
    load_table,
)
from finetune.reference import ReferenceConfig
from finetune.simulate import make_tables
from jaxrl_runs.run_folder import RunFolder, next_run_folder


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        out: Folder of the run, which must not hold one unless ``resume``; without it,
            the next numbered one under runs/.
        resume: Use the finished stages of a run with the same options that was
            stopped.
        quick: Three datasets, a few runs of each and two seeds, in two minutes: shows
            that everything works, and nothing else.
        table: Table of runs, as ``python -m benchmarks.finetuning_lm_table`` makes it;
            None: the one that is shipped.
        num_seeds: Seeds of every method; of ours and of the zero-shot network each has
            a meta-training of its own.
        minutes_per_run: What the mean full run is taken to last. A run of the table
            lasts a fraction of a second; only the ratios of seconds are measured.
        num_members: Members of the performance ensemble of each seed.
        num_steps: Of the performance surrogate's meta-training.
        reference_steps: Of the reference's meta-training; 10,000 are published.
        methods: What is replayed; what a stopped run has replayed is not again.
    """

    out: Path | None = None
    resume: bool = False
    quick: bool = False
    table: Path | None = None
    num_seeds: int = 10
    minutes_per_run: float = 60.0
    num_members: int = 1
    num_steps: int = 600
    reference_steps: int = 10_000
    methods: tuple[str, ...] = METHODS

    def __post_init__(self):
        for name in ("num_seeds", "num_members", "num_steps", "reference_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown or not set(OURS[1:]) & set(self.methods):
            raise ValueError(
                f"methods must be among {METHODS}, {OURS[1]} or {OURS[2]} with them, "
                f"got {self.methods}"
            )
        if not 0 < self.minutes_per_run <= 600:
            raise ValueError(
                "minutes_per_run must be above 0 and at most 600, got "
                f"{self.minutes_per_run}"
            )

    @property
    def seeds(self) -> int:
        """Seeds that are run."""
        return min(self.num_seeds, 2) if self.quick else self.num_seeds

    def fit_config(self) -> FitConfig:
        """Settings of the meta-training, for all seeds at once."""
        steps = min(self.num_steps, 200) if self.quick else self.num_steps
        return FitConfig(
            MetaTrainConfig(num_steps=steps, num_members=self.num_members * self.seeds),
            MetaTrainConfig(num_steps=max(steps // 2, 1), num_members=self.seeds),
            RankingConfig(num_steps=max(steps // 2, 1), num_members=2 * self.seeds),
            None,
        )


def few_runs(data: MetaDataset, num_datasets: int, num_runs: int) -> MetaDataset:
    """The first runs of the first datasets, the default configuration among them."""
    data = data.subset(range(min(num_datasets, data.num_datasets)))
    kept = [
        np.flatnonzero(data.dataset == d)[:num_runs] for d in range(data.num_datasets)
    ]
    return data.select(np.concatenate(kept))


def fit_folds(data: MetaDataset, args: Args, folds, stages: Stages) -> list[Surrogates]:
    """Meta-train for each dataset on the others, or read what was."""

    def fit():
        started = time.process_time()
        bundles = fit_surrogates(jax.random.key(29), data, args.fit_config(), folds)
        for fold, bundle in enumerate(bundles):
            bundle.save(stages.folder / f"fold_{fold}")
        return {"cpu_seconds": time.process_time() - started}

    stages.table("meta_training", fit)
    return [Surrogates.load(stages.folder / f"fold_{i}") for i in range(len(folds))]


def replay_all(data, seeds, folds, args: Args, stages: Stages) -> dict[str, np.ndarray]:
    """Replay the methods; regret ``[D, S, overheads, G]`` by name."""
    tables = make_tables(data)
    reference = ReferenceConfig(300 if args.quick else args.reference_steps)
    found = stages.arrays("baselines", lambda: run_baselines(tables, args.seeds))
    found |= stages.arrays("orders", lambda: run_orders(seeds, data, tables))
    assert set(BASELINES) <= set(found)
    alone = {
        "default": lambda: run_default(data, tables, args.seeds),
        "freeze_thaw_bo": lambda: run_freeze_thaw(seeds, data, tables),
        "quick_tune_reference": lambda: run_reference(
            seeds, data, tables, folds, reference
        ),
    }
    for name in args.methods:
        if name in alone:
            found |= stages.arrays(name, lambda n=name: {n: alone[n]()})
        elif name in OURS:
            found |= stages.arrays(
                name, lambda n=name: run_ours(n, seeds, data, tables, 0.0)
            )
    return {name: found[name] for name in METHODS if name in args.methods}


def run(args: Args) -> dict:
    """Run the protocol and write everything to ``args.out``."""
    if args.resume and args.out is None:
        raise ValueError("--resume: say which run with --out DIR")
    out = args.out or next_run_folder("runs/finetuning_lm")
    runs = load_table("lm-qa") if args.table is None else RunTable.load(args.table)
    data = few_runs(runs.data, 3, 40) if args.quick else runs.data
    data, factor = with_hours(data, args.minutes_per_run)
    folds = [
        [j for j in range(data.num_datasets) if j != i]
        for i in range(data.num_datasets)
    ]
    settings = dataclasses.asdict(args)
    for name in ("out", "resume", "table"):
        del settings[name]
    methods = settings.pop("methods")
    started = time.process_time()
    identity = {**settings, "data": fingerprint(data)}
    with RunFolder(out, identity, resume=args.resume) as folder:
        stages = Stages(folder)
        fitted = fit_folds(data, args, folds, stages)
        seeds = [split_seeds(bundle, args.seeds) for bundle in fitted]
        regret = replay_all(data, seeds, folds, args, stages)
        summary = {
            "settings": {**settings, "methods": methods},
            "runs": describe(data),
            "seconds_stretched_by": factor,
            **summarise(regret),
            "regret_of_datasets": {
                name: at_hours(values[:, :, 0]).mean(1).tolist()
                for name, values in regret.items()
            },
            "comparison": compare(regret),
            "zero_shot_choice": stages.table(
                "zero_shot_choice", lambda: zero_shot_quality(data, seeds, folds)
            ),
            "cpu_seconds": time.process_time() - started,
        }
        folder.write_json("summary.json", json.loads(json.dumps(summary)))
        write_tables(summary, Path(out) / "tables.md")
    print(f"Wrote summary.json and tables.md to {out}")
    return summary


def main() -> None:
    """Parse the options and run."""
    use_compilation_cache()
    run(tyro.cli(Args))

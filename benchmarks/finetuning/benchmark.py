"""Grey-box finetuning on tables of real learning curves: regret, rank, surrogates.

    python -m benchmarks.finetuning --data PATH            # leave datasets out
    python -m benchmarks.finetuning --data PATH --shipped  # the shipped surrogates

PATH is an npz table in the Quick-Tune layout, or a folder that holds one. Writes
``summary.json``, ``tables.md`` and pictures. A run that was stopped goes on where it
was with ``--resume``.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from pathlib import Path

import jax
import tyro

from benchmarks.finetuning.arms import GRID, run_all, split_seeds
from benchmarks.finetuning.language import language_model_table
from benchmarks.finetuning.pictures import draw_curves, draw_over_time
from benchmarks.finetuning.quality import (
    by_length,
    surrogate_errors,
    zero_shot_quality,
)
from benchmarks.finetuning.report import compare_refit, summarise, write_tables
from benchmarks.finetuning.stages import Stages, fingerprint
from benchmarks.finetuning.timings import decision_overhead, measure_timings
from benchmarks.shared.runtime import use_compilation_cache
from finetune import (
    FitConfig,
    MetaDataset,
    Surrogates,
    fit_surrogates,
    leave_datasets_out,
    read,
)
from finetune.readers import read_for
from jaxrl_runs.run_folder import RunFolder, next_run_folder


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        data: Table of finetuning runs (npz), or a folder with one.
        out: Folder of the run, which must not hold one unless ``resume``; without it,
            the next numbered one under runs/.
        shipped: Meta-train nothing; run the shipped surrogates on all datasets of
            ``data``, which they must not have seen.
        resume: Use the finished stages of a run with the same options that was
            stopped.
        num_seeds: Seeds of the methods; of ours and of the zero-shot network each has a
            meta-training of its own (with ``--shipped`` there is one: they are
            deterministic given their weights).
        reference_seeds: Seeds of the reference; 0 leaves it out.
        num_folds: Leave-datasets-out folds.
        split_seed: How datasets are dealt to folds; 42 is the one that is reported,
            settings were chosen on others.
        num_members: Members of the performance ensemble of each seed.
        language_models: Folder with the LLM scaling tables; default: the folder
            ``llm_finetune_scaling`` beside the data, where there is one.
        no_timings: Skip the timings; overhead is then not counted.
    """

    data: Path
    out: Path | None = None
    shipped: bool = False
    resume: bool = False
    num_seeds: int = 10
    reference_seeds: int = 10
    num_folds: int = 5
    split_seed: int = 42
    num_members: int = 3
    language_models: Path | None = None
    no_timings: bool = False

    def __post_init__(self):
        for name in ("num_seeds", "num_members"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.reference_seeds < 0:
            raise ValueError(
                f"reference_seeds must be 0 or more, got {self.reference_seeds}"
            )
        if not self.shipped and self.num_folds < 2:
            raise ValueError(f"num_folds must be 2 or more, got {self.num_folds}")


def without_linear_probing(data: MetaDataset) -> MetaDataset:
    """Leave out the one-epoch runs with linear probing (30 % of the table)."""
    columns = data.space.columns
    if "linear_probing" not in columns:
        return data
    probing = data.vectors[:, columns.index("linear_probing")] > 0
    return data.select(~(probing & (data.lengths == 1)))


def load_shipped(path: Path) -> tuple[MetaDataset, list[Surrogates]]:
    """Read a table for the shipped surrogates; one of these for each dataset."""
    shipped = Surrogates.load()
    data = read_for(shipped.space, shipped.meta_feature_names, path)
    seen = sorted(set(data.dataset_names) & set(shipped.card["datasets"]))
    if seen:
        warnings.warn(f"the shipped surrogates have seen {seen}", stacklevel=2)
    return data, [shipped] * data.num_datasets


def fit_folds(
    data: MetaDataset, args: Args, train: list[list[int]], stages: Stages
) -> list[Surrogates]:
    """Meta-train the surrogates of all folds and seeds, or read them."""
    default = FitConfig()

    num = args.num_seeds
    performance, cost, ranking = default.performance, default.cost, default.ranking
    config = FitConfig(
        dataclasses.replace(performance, num_members=args.num_members * num),
        dataclasses.replace(cost, num_members=cost.num_members * num),
        dataclasses.replace(ranking, num_members=ranking.num_members * num),
    )

    def fit():
        started = time.process_time()
        key = jax.random.key(args.split_seed)
        for fold, bundle in enumerate(fit_surrogates(key, data, config, train)):
            bundle.save(stages.folder / f"fold_{fold}")
        return {"cpu_seconds": time.process_time() - started}

    print(f"{len(train)} folds x {args.num_seeds} seeds are meta-trained at once")
    stages.table("meta_training", fit)
    return [Surrogates.load(stages.folder / f"fold_{i}") for i in range(len(train))]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is compared on which data.

    Attributes:
        data: The table.
        train: Datasets that are learned from, for each dataset; None with ``shipped``.
        held_out: Datasets of each fold; None with ``shipped``.
    """

    data: MetaDataset
    train: list[list[int]] | None = None
    held_out: list[list[int]] | None = None


def run(args: Args) -> dict:
    """Run the protocol and write everything to ``args.out``."""
    if args.resume and args.out is None:
        raise ValueError("--resume: say which run with --out DIR")
    out = args.out or next_run_folder("runs/finetuning")
    if args.shipped:
        data, bundles = load_shipped(args.data)
        protocol = Protocol(data)
    else:
        data, bundles = read(args.data), []
        num_folds = min(args.num_folds, data.num_datasets)
        if num_folds < 2:
            raise ValueError(f"{args.data.name}: expected 2 datasets or more")
        protocol = Protocol(
            data, *leave_datasets_out(data.num_datasets, num_folds, args.split_seed)
        )
    print(f"{data.num_runs} runs on {data.num_datasets} datasets", flush=True)
    settings = dataclasses.asdict(args)
    for name in ("out", "data", "language_models", "resume"):
        del settings[name]
    identity = {**settings, "data": fingerprint(data)}
    with RunFolder(out, identity, resume=args.resume) as folder:
        return _compare(args, protocol, bundles, settings, Stages(folder), out)


def _compare(args, protocol, bundles, settings, stages: Stages, out: Path) -> dict:
    """Learn, replay, and write the summary, its tables and pictures."""
    started = time.process_time()
    data, train = protocol.data, protocol.train
    num_groups = 1 if train is None else args.num_seeds
    if train is not None:
        fitted = fit_folds(data, args, train, stages)
        fold = {d: f for f, part in enumerate(protocol.held_out) for d in part}
        bundles = [fitted[fold[d]] for d in range(data.num_datasets)]
        train = [train[fold[d]] for d in range(data.num_datasets)]
    seeds = [split_seeds(bundle, num_groups) for bundle in bundles]
    summary: dict = {"datasets": list(data.dataset_names), "settings": settings}
    timings = {}
    if not args.no_timings:
        performance = seeds[0][0].learned.performance
        timings = stages.table(
            "timings",
            lambda: measure_timings(data, performance, with_training=not args.shipped),
        )
    overhead = decision_overhead(timings)
    counts = (args.num_seeds, args.reference_seeds, overhead, stages.arrays)
    regret = run_all(seeds, data, *counts)
    summary |= summarise(regret)
    summary["is_no_refit_better"] = compare_refit(regret)
    summary["zero_shot_choice"] = stages.table(
        "zero_shot_choice", lambda: zero_shot_quality(data, seeds, train)
    )
    if train is not None:
        summary |= _left_out(args, data, seeds, counts, stages)
    errors = stages.arrays("errors", lambda: surrogate_errors(seeds, data))
    summary["surrogate_quality"] = by_length(errors)
    summary["cpu_seconds_of"] = timings
    summary["overhead_seconds_per_decision"] = overhead
    summary["cpu_seconds"] = time.process_time() - started
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    write_tables(summary, out / "tables.md")
    traces = {name: values[:, :, 0].mean(1) for name, values in regret.items()}
    draw_over_time(traces, GRID / 3600, out)
    draw_curves(bundles[0], data, 0, out)
    print(f"Wrote summary.json, tables.md and pictures to {out}")
    return summary


def _left_out(args: Args, data, seeds, counts, stages: Stages) -> dict:
    """What is only shown where datasets are left out."""
    summary = {}
    kept = without_linear_probing(data)
    if kept.num_runs < data.num_runs:
        part = run_all(seeds, kept, *counts, prefix="no_probing_")
        summary["without_linear_probing"] = summarise(part)
    folder = args.language_models or _beside(args.data) / "llm_finetune_scaling"
    if folder.is_dir():
        summary["language_models"] = stages.table(
            "language_models", lambda: language_model_table(folder)
        )
    return summary


def _beside(path: Path) -> Path:
    """Folder in which the data's folder stands."""
    return (path if path.is_dir() else path.parent).resolve().parent


def main() -> None:
    """Parse the options and run."""
    use_compilation_cache()
    run(tyro.cli(Args))

"""Makes the table of finetuning runs: pretrains, finetunes in chunks, prices.

    python -m benchmarks.finetuning_lm_table --out DIR [--resume]

Each chunk of runs is written as it ends; a command that was stopped goes on with
``--resume`` and gives the same table.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.finetuning.stages import Stages
from benchmarks.finetuning_lm.alone import (
    epoch_operations,
    epoch_updates,
    fit_prices,
    train_alone,
)
from benchmarks.finetuning_lm.model import ModelConfig, init_params, num_params
from benchmarks.finetuning_lm.pretrain import (
    PretrainConfig,
    load_params,
    pretrain,
    save_params,
)
from benchmarks.finetuning_lm.questions import SKILLS, make_questions
from benchmarks.finetuning_lm.runs import (
    Data,
    Rows,
    Shape,
    evaluate,
    make_data,
    train_many,
)
from benchmarks.finetuning_lm.space import METHODS, SPACE, as_numbers, draw_configs
from benchmarks.shared.runtime import use_compilation_cache
from finetune.meta_dataset import MetaDataset
from finetune.meta_features import text_meta_features
from finetune.run_tables import RunTable
from jaxrl_runs import values
from jaxrl_runs.run_folder import RunFolder
from jaxrl_runs.values import COUNT, setting


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Size of the table.

    Attributes:
        num_chunks_lora: Chunks of runs with adapters, on each dataset.
        num_chunks_full: Chunks of runs of all weights, on each dataset.
        chunk_size: Runs of one compiled program.
        num_epochs: Epochs of each run.
        num_alone: Runs of each method that are also measured alone.
        skills: Datasets.
        model: Size of the language model.
        pretraining: Its settings.
        seed: Of everything.
    """

    num_chunks_lora: int = setting(6, COUNT)
    num_chunks_full: int = setting(3, COUNT)
    chunk_size: int = setting(25, COUNT)
    num_epochs: int = setting(10, COUNT)
    num_alone: int = setting(8, COUNT)
    skills: tuple[str, ...] = tuple(SKILLS)
    model: ModelConfig = ModelConfig(width=48, num_hidden=192)  # noqa: RUF009
    pretraining: PretrainConfig = PretrainConfig()  # noqa: RUF009
    seed: int = 0

    def __post_init__(self):
        values.check(self)
        unknown = sorted(set(self.skills) - set(SKILLS))
        if unknown or not self.skills:
            raise ValueError(f"skills must be among {tuple(SKILLS)}, got {self.skills}")

    def num_chunks(self, method: str) -> int:
        """Chunks of a method on each dataset."""
        return {"lora": self.num_chunks_lora, "full": self.num_chunks_full}[method]

    @property
    def num_runs(self) -> int:
        """Runs on each dataset."""
        return self.chunk_size * sum(self.num_chunks(m) for m in METHODS)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Runs of one shape on one dataset.

    Attributes:
        skill: The dataset.
        method: "lora" or "full".
        number: Which chunk.
        configs: One per run.
        keys: One per run.
    """

    skill: str
    method: str
    number: int
    configs: list[dict[str, Any]]
    keys: jax.Array

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.skill}_{self.method}_{self.number}"


def make_chunks(config: TableConfig) -> Iterator[Chunk]:
    """Draw the configurations of all runs; those of a dataset are its own."""
    for skill in config.skills:
        position = list(SKILLS).index(skill)
        random = np.random.default_rng([config.seed, 4, position])
        size = config.chunk_size
        drawn = draw_configs(
            random, *(size * config.num_chunks(method) for method in METHODS)
        )
        for m, method in enumerate(METHODS):
            for number in range(config.num_chunks(method)):
                key = jax.random.key(config.seed + 1)
                for part in (position, m, number):
                    key = jax.random.fold_in(key, part)
                part = drawn[method][number * size : (number + 1) * size]
                keys = jax.random.split(key, size)
                yield Chunk(skill, method, number, part, keys)


def train_chunk(base, chunk: Chunk, data: Data, config: TableConfig) -> dict:
    """Finetune the runs of a chunk; curves ``[runs, epochs]`` and CPU-seconds."""
    shape = Shape(config.model, chunk.method, config.num_epochs)
    hps = [as_numbers(c, config.model) for c in chunk.configs]
    stacked = jax.tree.map(lambda *x: np.stack(x), *hps)
    started = time.process_time()
    program = train_many.lower(base, stacked, data, chunk.keys, shape).compile()
    compiled = time.process_time()
    curves = jax.block_until_ready(program(base, stacked, data, chunk.keys))
    return {
        "exact_match": np.asarray(curves.exact_match),
        "loss": np.asarray(curves.loss),
        "compile_seconds": np.float64(compiled - started),
        "seconds": np.float64(time.process_time() - compiled),
    }


def pretrained(folder: Path, config: TableConfig) -> Any:
    """Pretrain, or read the weights of the stopped run."""
    path = folder / "pretrained.npz"
    if not path.exists():
        started = time.process_time()
        params, loss = pretrain(config.seed, config.model, config.pretraining)
        about = {"loss": loss, "cpu_seconds": time.process_time() - started}
        save_params(path, params, about)
    return load_params(path, config.model)


def _measure_alone(base, chunks: list[Chunk], datas, config: TableConfig) -> dict:
    """Train a sample of runs alone, spread over datasets, batches and ranks."""
    found: dict[str, list] = {
        name: []
        for name in ("operations", "updates", "seconds", "compile_seconds")
        + ("exact_match", "loss", "chunk", "run")
    }
    for method in METHODS:
        own = [i for i, chunk in enumerate(chunks) if chunk.method == method]
        picked = np.linspace(0, len(own) - 1, config.num_alone).astype(int)
        for number, index in enumerate(picked):
            chunk = chunks[own[index]]
            run = (7 * number + 1) % config.chunk_size
            chosen, data = chunk.configs[run], datas[chunk.skill]
            curves, seconds, compile_seconds = train_alone(
                base, chosen, data, chunk.keys[run], config.model, config.num_epochs
            )
            num = int(data.num_train)
            row = (
                epoch_operations(chosen, num, config.model),
                epoch_updates(chosen, num),
                seconds,
                compile_seconds,
                np.asarray(curves.exact_match),
                np.asarray(curves.loss),
                own[index],
                run,
            )
            for name, value in zip(found, row, strict=True):
                found[name].append(value)
    return {name: np.asarray(rows) for name, rows in found.items()}


def _trimmed(data: Data) -> Data:
    """Without padded examples, as a run alone sees it."""
    num = int(data.num_train)
    return data._replace(train=Rows(*(x[:num] for x in data.train)))


def assemble_table(chunks: list[Chunk], parts: list[dict], alone: dict, metas) -> Any:
    """Put the runs together, with seconds and operations as of runs alone."""
    skills = list(dict.fromkeys(chunk.skill for chunk in chunks))
    prices = fit_prices(alone["operations"], alone["updates"], alone["seconds"])
    rows = [(chunk, c) for chunk in chunks for c in chunk.configs]
    model, sizes = metas["model"], metas["num_train"]
    operations = np.array([epoch_operations(c, sizes[k.skill], model) for k, c in rows])
    updates = np.array([epoch_updates(c, sizes[k.skill]) for k, c in rows])
    curves = np.concatenate([part["exact_match"] for part in parts])
    seconds = prices.seconds(operations, updates)
    data = MetaDataset(
        space=SPACE,
        vectors=np.stack([SPACE.to_vector(c) for _, c in rows]),
        curves=curves,
        costs=np.repeat(seconds[:, None], curves.shape[1], 1),
        dataset=np.array([skills.index(chunk.skill) for chunk, _ in rows]),
        dataset_names=tuple(skills),
        meta_features=np.stack([metas["features"][skill] for skill in skills]),
        meta_feature_names=metas["names"],
        source="lm-qa",
    )
    losses = np.concatenate([part["loss"] for part in parts])
    return RunTable(data, losses, operations, {"prices": dataclasses.asdict(prices)})


def speed(parts: list[dict], alone: dict, num_epochs: int) -> dict[str, float]:
    """How the one program compares with one run after the other, CPU-seconds."""
    num_runs = sum(len(part["loss"]) for part in parts)
    together = sum(float(part["seconds"]) for part in parts) / num_runs
    first = [float(part["compile_seconds"]) for part in parts]
    compiled = sum(sorted(first)[-2:]) / num_runs
    apart = float(alone["seconds"].mean()) * num_epochs
    return {
        "run_in_batch": together,
        "run_in_batch_with_compilation": together + compiled,
        "run_alone": apart,
        "run_alone_with_compilation": apart + float(alone["compile_seconds"].mean()),
    }


def parity(parts: list[dict], alone: dict) -> dict[str, float]:
    """How far the curves of runs alone are from those of the batch."""
    pairs = list(zip(alone["chunk"], alone["run"], strict=True))
    for name in ("exact_match", "loss"):
        batch = np.array([parts[c][name][r] for c, r in pairs])
        gap = np.abs(batch - alone[name])
        if name == "exact_match":
            matches = gap
    losses = np.array([parts[c]["loss"][r] for c, r in pairs])
    gap = np.abs(losses / alone["loss"] - 1)
    return {
        "exact_match_mean_difference": float(matches.mean()),
        "exact_match_largest_difference": float(matches.max()),
        "loss_median_relative_difference": float(np.nanmedian(gap)),
    }


def make_table(out: Path, config: TableConfig, resume: bool = False) -> RunTable:
    """Make the table, or go on where a stopped command was.

    Args:
        out: Folder of the run; ``table.npz`` and ``summary.json`` are written there.
        config: Size of the table.
        resume: Go on.
    """
    identity = dataclasses.asdict(config)
    with RunFolder(out, identity, resume=resume) as folder:
        stages = Stages(folder)
        base = pretrained(Path(out), config)
        datas, features, zero_shot, names = {}, {}, {}, ()
        for skill in config.skills:
            questions = make_questions(skill, config.seed)
            datas[skill] = make_data(questions, config.model.length)
            before = evaluate({"params": base}, datas[skill].held_out, config.model)
            zero_shot[skill] = float(before.exact_match)
            asked, told = zip(*questions.train, strict=True)
            features[skill], names = text_meta_features(
                asked, told, float(before.loss)
            )
        chunks = list(make_chunks(config))
        parts = [
            stages.arrays(
                chunk.name,
                lambda c=chunk: train_chunk(base, c, datas[c.skill], config),
            )
            for chunk in chunks
        ]
        trimmed = {skill: _trimmed(data) for skill, data in datas.items()}
        alone = stages.arrays(
            "alone", lambda: _measure_alone(base, chunks, trimmed, config)
        )
        metas = {
            "model": config.model,
            "num_train": {skill: int(d.num_train) for skill, d in datas.items()},
            "features": features,
            "names": names,
        }
        table = assemble_table(chunks, parts, alone, metas)
        card = {
            **table.card,
            "settings": identity,
            "num_params": num_params(base),
            "zero_shot_exact_match": zero_shot,
            "cpu_seconds": speed(parts, alone, config.num_epochs),
            "parity": parity(parts, alone),
        }
        table = dataclasses.replace(table, card=card)
        table.save(Path(out) / "table.npz")
        folder.write_json("summary.json", card)
    return table


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        out: Folder of the run.
        resume: Go on with a stopped run of the same options.
        table: Size of the table.
    """

    out: Path
    resume: bool = False
    table: TableConfig = TableConfig()  # noqa: RUF009


def main() -> None:
    """Parse the options and run."""
    use_compilation_cache()
    args = tyro.cli(Args)
    table = make_table(args.out, args.table, args.resume)
    best = [
        f"{name} {table.data.curves[table.data.dataset == i].max():.3f}"
        for i, name in enumerate(table.data.dataset_names)
    ]
    print(f"{table.data.num_runs} runs; best exact match: {', '.join(best)}")
    print(f"Wrote table.npz and summary.json to {args.out}")


__all__ = ["TableConfig", "init_params", "make_chunks", "make_table"]

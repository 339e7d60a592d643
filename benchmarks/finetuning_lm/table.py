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
    measure_alone,
    parity,
    speed,
    trimmed,
)
from benchmarks.finetuning_lm.model import ModelConfig, num_params
from benchmarks.finetuning_lm.pretrain import (
    PretrainConfig,
    load_params,
    pretrain,
    save_params,
)
from benchmarks.finetuning_lm.questions import SKILLS, make_questions
from benchmarks.finetuning_lm.runs import (
    Data,
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
        at_once: Runs of a chunk that are vectorised; on a CPU core, which one run keeps
            busy, the program is fastest where it takes one after the other.
        skills: Datasets.
        model: Size of the language model.
        pretraining: Its settings.
        seed: Of everything.
    """

    num_chunks_lora: int = setting(6, COUNT)
    num_chunks_full: int = setting(3, COUNT)
    chunk_size: int = setting(25, COUNT)
    num_epochs: int = setting(8, COUNT)
    num_alone: int = setting(4, COUNT)
    at_once: int = setting(1, COUNT)
    skills: tuple[str, ...] = tuple(SKILLS)
    model: ModelConfig = ModelConfig()  # noqa: RUF009
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


def _turn(chunk: Chunk, config: TableConfig) -> tuple[float, str]:
    """When a chunk is trained: all datasets grow alike, full finetuning with them."""
    return (chunk.number + 1) / config.num_chunks(chunk.method), chunk.method


def train_chunk(base, chunk: Chunk, data: Data, config: TableConfig) -> dict:
    """Finetune the runs of a chunk; curves ``[runs, epochs]`` and CPU-seconds.

    The first chunk of a method is also compiled in its seconds.
    """
    shape = Shape(config.model, chunk.method, config.num_epochs)
    hps = [as_numbers(c, config.model) for c in chunk.configs]
    stacked = jax.tree.map(lambda *x: np.stack(x), *hps)
    started = time.process_time()
    curves = jax.block_until_ready(
        train_many(base, stacked, data, chunk.keys, shape, config.at_once)
    )
    return {
        "exact_match": np.asarray(curves.exact_match),
        "loss": np.asarray(curves.loss),
        "seconds": np.float64(time.process_time() - started),
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
        score = jax.jit(evaluate, static_argnums=2)
        datas, features, zero_shot, names = {}, {}, {}, ()
        for skill in config.skills:
            questions = make_questions(skill, config.seed)
            datas[skill] = make_data(questions, config.model.length)
            before = score({"params": base}, datas[skill].held_out, config.model)
            zero_shot[skill] = float(before.exact_match)
            asked, told = zip(*questions.train, strict=True)
            features[skill], names = text_meta_features(asked, told, float(before.loss))
        chunks = list(make_chunks(config))
        found = {
            chunk.name: stages.arrays(
                chunk.name,
                lambda c=chunk: train_chunk(base, c, datas[c.skill], config),
            )
            for chunk in sorted(chunks, key=lambda c: _turn(c, config))
        }
        parts = [found[chunk.name] for chunk in chunks]
        sized = {skill: trimmed(data) for skill, data in datas.items()}
        alone = stages.arrays(
            "alone", lambda: measure_alone(base, chunks, sized, config)
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
            "cpu_seconds": speed(chunks, parts, alone, config.num_epochs),
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
    table: TableConfig = TableConfig()


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

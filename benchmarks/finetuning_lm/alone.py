"""Seconds and operations of a finetuning run that has the core to itself."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from scipy.optimize import nnls

from benchmarks.finetuning_lm.model import MODULES, ModelConfig
from benchmarks.finetuning_lm.questions import NUM_HELD_OUT
from benchmarks.finetuning_lm.runs import Curves, Data, Rows, Shape, train_one
from benchmarks.finetuning_lm.space import METHODS, TARGETS, as_numbers
from benchmarks.finetuning_lm.world import VOCABULARY
from finetune.space import Config

if TYPE_CHECKING:
    from benchmarks.finetuning_lm.table import Chunk, TableConfig

_MEASURED = (
    "operations",
    "updates",
    "seconds",
    "compile_seconds",
    "exact_match",
    "loss",
    "chunk",
    "run",
)


def shape_alone(config: Config, model: ModelConfig, num_epochs: int) -> Shape:
    """Shape of a run by itself: its own batch, its own rank, no frozen gradients."""
    return Shape(
        model,
        config["method"],
        num_epochs,
        int(config["batch_size"]),
        int(config.get("lora_rank", 1)),
        int(config["frozen_layers"]),
    )


def epoch_operations(
    config: Config,
    num_train: int,
    model: ModelConfig,
    num_held_out: int = NUM_HELD_OUT,
) -> float:
    """Floating-point operations of one epoch with its evaluation.

    Two per weight and token forward; backward two more to pass the gradient on, from
    the last layer down to the first that is trained, and two for each trained weight.
    Attention counts likewise; normalisations and the optimiser do not.

    Args:
        config: The configuration.
        num_train: Examples trained on.
        model: Size of the model.
        num_held_out: Questions evaluated.
    """
    sizes = {module: np.prod(model.sizes(module)) for module in MODULES}
    layer = float(sum(sizes.values())) + 2 * model.length * model.width
    head = float(len(VOCABULARY) * model.width)
    frozen = int(config["frozen_layers"])
    active = model.num_layers - frozen
    forward = model.num_layers * layer + head
    passed = active * layer + head
    if config["method"] == "full":
        adapters = 0.0
        trained = active * float(sum(sizes.values())) + (head if not frozen else 0)
    else:
        adapters = trained = float(
            active
            * int(config["lora_rank"])
            * sum(sum(model.sizes(m)) for m in TARGETS[config["lora_targets"]])
        )
    train = 2 * (forward + adapters) + 2 * (passed + adapters) + 2 * trained
    test = 2 * (forward + adapters)
    return model.length * (num_train * train + num_held_out * test)


def epoch_updates(config: Config, num_train: int) -> int:
    """Steps of the optimiser in an epoch."""
    return -(-num_train // int(config["batch_size"]))


@dataclasses.dataclass(frozen=True)
class Prices:
    """Seconds of an epoch as a sum, fitted to runs that were alone.

    Attributes:
        per_epoch: Seconds.
        per_operation: Seconds.
        per_update: Seconds.
        error: Mean absolute error of the fit on what was measured, as a share.
    """

    per_epoch: float
    per_operation: float
    per_update: float
    error: float

    def seconds(self, operations: np.ndarray, updates: np.ndarray) -> np.ndarray:
        """Seconds of epochs."""
        return (
            self.per_epoch + self.per_operation * operations + self.per_update * updates
        )


def fit_prices(
    operations: np.ndarray, updates: np.ndarray, seconds: np.ndarray
) -> Prices:
    """Fit prices that are not negative to measured seconds of an epoch, ``[n]`` each.

    Relative errors count, so that short runs are as well priced as long ones.
    """
    inputs = np.stack([np.ones(len(seconds)), operations, updates], 1)
    scale = inputs.max(0)
    found = nnls(inputs / scale / seconds[:, None], np.ones(len(seconds)))[0] / scale
    error = float(np.mean(np.abs(inputs @ found / seconds - 1)))
    per_epoch, per_operation, per_update = found.tolist()
    return Prices(per_epoch, per_operation, per_update, error)


def train_alone(
    base: Any,
    config: Config,
    data: Data,
    key: jax.Array,
    model: ModelConfig,
    num_epochs: int,
) -> tuple[Curves, float, float]:
    """Finetune alone.

    Returns:
        Curves ``[num_epochs]``; CPU-seconds of an epoch; CPU-seconds to compile.
    """
    shape = shape_alone(config, model, num_epochs)
    hp = as_numbers(config, model, shape.max_rank)
    started = time.process_time()
    curves = jax.block_until_ready(train_one(base, hp, data, key, shape))
    compiled = time.process_time()
    jax.block_until_ready(train_one(base, hp, data, key, shape))
    ended = time.process_time()
    seconds = ended - compiled
    return curves, seconds / num_epochs, max(compiled - started - seconds, 0.0)


def measure_alone(
    base: Any, chunks: list[Chunk], datas: dict[str, Data], config: TableConfig
) -> dict[str, np.ndarray]:
    """Train a sample of runs alone, spread over datasets, batches and ranks."""
    found: dict[str, list] = {name: [] for name in _MEASURED}
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


def trimmed(data: Data) -> Data:
    """Without padded examples, as a run alone sees it."""
    num = int(data.num_train)
    return data._replace(train=Rows(*(x[:num] for x in data.train)))


def speed(
    chunks: list[Chunk], parts: list[dict], alone: dict, num_epochs: int
) -> dict[str, float]:
    """How the one program compares with one run after the other, CPU-seconds of a run.

    A program is compiled once per method, in the slowest of its chunks; alone, each
    combination of method, rank, batch size, frozen layers and size of the dataset.
    """
    typical, compiled = [], []
    for method in METHODS:
        own = [
            float(part["seconds"])
            for chunk, part in zip(chunks, parts, strict=True)
            if chunk.method == method
        ]
        typical += [float(np.median(own))] * len(own)
        compiled.append(max(own) - float(np.median(own)))
    num_runs = sum(len(chunk.configs) for chunk in chunks)
    together = sum(typical) / num_runs
    is_lora = np.array([chunks[int(c)].method == "lora" for c in alone["chunk"]])
    share = np.mean([chunk.method == "lora" for chunk in chunks])
    weights = np.where(is_lora, share / is_lora.sum(), (1 - share) / (~is_lora).sum())
    return {
        "run_in_batch": together,
        "run_in_batch_with_compilation": together + sum(compiled) / num_runs,
        "run_alone": float(weights @ alone["seconds"]) * num_epochs,
        "compilation_alone": float(weights @ alone["compile_seconds"]),
    }


def parity(parts: list[dict], alone: dict) -> dict[str, float]:
    """How far the curves of runs alone are from those of the batch."""
    pairs = list(zip(alone["chunk"], alone["run"], strict=True))
    batch = {
        name: np.array([parts[c][name][r] for c, r in pairs])
        for name in ("exact_match", "loss")
    }
    matches = np.abs(batch["exact_match"] - alone["exact_match"])
    gap = np.abs(batch["loss"] / alone["loss"] - 1)
    return {
        "exact_match_mean_difference": float(matches.mean()),
        "exact_match_largest_difference": float(matches.max()),
        "loss_median_relative_difference": float(np.nanmedian(gap)),
    }

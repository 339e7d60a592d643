"""Seconds and operations of a finetuning run that has the core to itself."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np
from scipy.optimize import nnls

from benchmarks.finetuning_lm.model import MODULES, ModelConfig
from benchmarks.finetuning_lm.questions import NUM_HELD_OUT
from benchmarks.finetuning_lm.runs import Curves, Data, Shape, train_one
from benchmarks.finetuning_lm.space import TARGETS, as_numbers
from benchmarks.finetuning_lm.world import VOCABULARY
from finetune.space import Config


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
    return Prices(*(float(x) for x in found), error)


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

"""How the language model can be finetuned: the search space, and runs drawn from it."""

from __future__ import annotations

import numpy as np
from flax import struct

from benchmarks.finetuning_lm.model import MODULES, ModelConfig
from finetune.space import Categorical, Condition, Config, Float, Ordinal, SearchSpace

METHODS = ("lora", "full")
OPTIMIZERS = ("adamw", "sgd", "lion")
SCHEDULES = ("constant", "linear", "cosine")
MAX_RANK = 8
TARGETS = {
    "query_value": ("query", "value"),
    "attention": ("query", "key", "value", "out"),
    "all": MODULES,
}
_LORA = Condition("method", ("lora",))
SPACE = SearchSpace(
    (
        Categorical("method", METHODS),
        Ordinal("lora_rank", (1, 2, 4, 8), log=True, condition=_LORA),
        Ordinal("lora_alpha_per_rank", (0.5, 1, 2, 4), log=True, condition=_LORA),
        Categorical("lora_targets", tuple(TARGETS), condition=_LORA),
        Ordinal("lora_dropout", (0, 0.1, 0.3), condition=_LORA),
        Categorical("optimizer", OPTIMIZERS),
        Float("learning_rate", 1e-4, 1e-1, log=True),
        Categorical("schedule", SCHEDULES),
        Ordinal("warm_up", (0, 0.1, 0.3)),
        Ordinal("batch_size", (8, 16, 32), log=True),
        Ordinal("weight_decay", (0, 0.01, 0.1)),
        Ordinal("clip_norm", (0.3, 1, 100), log=True),
        Ordinal("frozen_layers", (0, 1)),
        Categorical("loss_on", ("answer", "all")),
    )
)
# what one would start with: adapters of query and value as in their paper, AdamW at its
# usual rate, warm-up and a linear decay; chosen before any run was seen
DEFAULT: Config = {
    "method": "lora",
    "lora_rank": 8,
    "lora_alpha_per_rank": 2,
    "lora_targets": "query_value",
    "lora_dropout": 0.1,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "schedule": "linear",
    "warm_up": 0.1,
    "batch_size": 16,
    "weight_decay": 0.01,
    "clip_norm": 1,
    "frozen_layers": 0,
    "loss_on": "answer",
}


class Hyperparameters(struct.PyTreeNode):
    """A configuration as numbers that a compiled program takes; one per run in a batch.

    Attributes:
        rank_mask: 1 for the columns of the adapters in use, ``[max_rank]``.
        scale: Of each layer's and module's adapter, ``[layers, modules]``.
        dropout: Of the adapters' inputs.
        optimizer: Index into `OPTIMIZERS`.
        learning_rate: Peak.
        schedule: Index into `SCHEDULES`.
        warm_up: Share of the updates.
        batch_size: Examples per update.
        weight_decay: Decoupled, times the learning rate.
        clip_norm: Largest norm of a gradient.
        frozen_layers: First layers that stay as they are; the embedding too if any.
        on_answer: 1 where only the answer's tokens count in the loss.
    """

    rank_mask: np.ndarray
    scale: np.ndarray
    dropout: np.ndarray
    optimizer: np.ndarray
    learning_rate: np.ndarray
    schedule: np.ndarray
    warm_up: np.ndarray
    batch_size: np.ndarray
    weight_decay: np.ndarray
    clip_norm: np.ndarray
    frozen_layers: np.ndarray
    on_answer: np.ndarray


def as_numbers(
    config: Config, model: ModelConfig, max_rank: int = MAX_RANK
) -> Hyperparameters:
    """Turn a configuration of `SPACE` into numbers.

    Args:
        config: The configuration.
        model: Size of the model.
        max_rank: What the rank is padded to.

    Raises:
        ValueError: On values outside the space, a larger rank, or as many frozen
            layers as there are layers.
    """
    SPACE.validate(config)
    rank = int(config.get("lora_rank", 1))
    if rank > max_rank:
        raise ValueError(f"lora_rank must be at most {max_rank}, got {rank}")
    frozen = int(config["frozen_layers"])
    if frozen >= model.num_layers:
        raise ValueError(
            f"frozen_layers must be below num_layers ({model.num_layers}), got {frozen}"
        )
    adapted = TARGETS.get(config.get("lora_targets", ""), ())
    ratio = float(config.get("lora_alpha_per_rank", 0))
    layers = np.arange(model.num_layers)[:, None] >= frozen
    modules = np.array([module in adapted for module in MODULES])

    def real(value) -> np.ndarray:
        return np.asarray(value, np.float32)

    def whole(value) -> np.ndarray:
        return np.asarray(value, np.int32)

    return Hyperparameters(
        rank_mask=real(np.arange(max_rank) < rank),
        scale=real(ratio * layers * modules),
        dropout=real(config.get("lora_dropout", 0)),
        optimizer=whole(OPTIMIZERS.index(config["optimizer"])),
        learning_rate=real(config["learning_rate"]),
        schedule=whole(SCHEDULES.index(config["schedule"])),
        warm_up=real(config["warm_up"]),
        batch_size=whole(config["batch_size"]),
        weight_decay=real(config["weight_decay"]),
        clip_norm=real(config["clip_norm"]),
        frozen_layers=whole(frozen),
        on_answer=real(config["loss_on"] == "answer"),
    )


def draw_configs(
    random: np.random.Generator, num_lora: int, num_full: int
) -> dict[str, list[Config]]:
    """Draw distinct configurations; `DEFAULT` is the first with adapters.

    Args:
        random: Generator.
        num_lora: With adapters.
        num_full: Of all weights.

    Returns:
        By method.
    """
    wanted = {"lora": num_lora, "full": num_full}
    found: dict[str, list[Config]] = {"lora": [DEFAULT], "full": []}
    seen = {SPACE.to_vector(DEFAULT).tobytes()}
    while any(len(found[method]) < wanted[method] for method in METHODS):
        config = SPACE.sample(random)
        key, method = SPACE.to_vector(config).tobytes(), config["method"]
        if key not in seen and len(found[method]) < wanted[method]:
            seen.add(key)
            found[method].append(config)
    return found

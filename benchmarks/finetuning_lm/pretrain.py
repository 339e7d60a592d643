"""Pretraining of the small language model on generated text."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from benchmarks.finetuning_lm.model import (
    ModelConfig,
    Transformer,
    init_params,
    token_losses,
)
from benchmarks.finetuning_lm.world import make_text
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, RATE, setting
from jaxrl_runs.weight_files import check_arrays, read_weights, write_weights


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Settings of the pretraining.

    Attributes:
        num_sequences: Sequences of text.
        num_steps: Of AdamW; a multiple of 50.
        batch_size: Sequences per step.
        learning_rate: Peak; a warm-up of 2 %, then a cosine.
    """

    num_sequences: int = setting(25_000, COUNT)
    num_steps: int = setting(3_500, COUNT)
    batch_size: int = setting(64, COUNT)
    learning_rate: float = setting(3e-3, RATE)

    def __post_init__(self):
        values.check(self)
        if self.num_steps % 50:
            raise ValueError(
                f"num_steps must be a multiple of 50, got {self.num_steps}"
            )


def pretrain(
    seed: int,
    model: ModelConfig,
    config: PretrainConfig,
) -> tuple[dict[str, Any], float]:
    """Train on generated text.

    Args:
        seed: Of the world, the text and the weights.
        model: Size of the model.
        config: Settings.

    Returns:
        The weights, and the loss per token over the last tenth.
    """
    text = jnp.asarray(make_text(seed, config.num_sequences, model.length))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.num_steps // 50, config.num_steps
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01)
    )
    network = Transformer(model)
    init_key, row_key = jax.random.split(jax.random.key(seed))

    def loss_fn(params, tokens):
        logits = jnp.asarray(network.apply({"params": params}, tokens))
        return token_losses(logits, tokens).mean()

    def step(carry, key):
        params, state = carry
        rows = jax.random.randint(key, (config.batch_size,), 0, len(text))
        tokens = text[rows].astype(jnp.int32)
        loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    part = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys))
    params = init_params(init_key, model)
    carry: Any = (params, optimizer.init(params))
    losses = []
    for i, keys in enumerate(jax.random.split(row_key, (50, config.num_steps // 50))):
        carry, part_losses = part(carry, keys)
        losses.append(float(part_losses.mean()))
        print(f"pretraining {2 * (i + 1)} %: loss {losses[-1]:.3f}", flush=True)
    return carry[0], float(np.mean(losses[-5:]))


def save_params(path: Path, params: Any, about: dict[str, Any]) -> None:
    """Write weights and a description."""
    flat = traverse_util.flatten_dict(params, sep="/")
    write_weights(path, flat, {"format_version": 1, **about})


def load_params(path: Path, model: ModelConfig) -> dict[str, Any]:
    """Read weights of a model of a size.

    Raises:
        ValueError: If they are of another size.
    """
    _, flat = read_weights(path, what="a pretrained model", format_version=1)
    expected = jax.eval_shape(lambda: init_params(jax.random.key(0), model))
    check_arrays(path, flat, traverse_util.flatten_dict(expected, sep="/"))
    arrays = {name: jnp.asarray(value) for name, value in flat.items()}
    return traverse_util.unflatten_dict(arrays, sep="/")

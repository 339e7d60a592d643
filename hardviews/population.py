"""Many augmentations at once: one program trains an encoder on each.

The encoders start from the same weights and see the same pictures in the same order,
so what differs are the augmentations alone.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hardviews.augmentations import Augmentation
from hardviews.pictures import Pictures
from hardviews.pretraining import encoder_of
from hardviews.training import (
    PretrainConfig,
    PretrainState,
    program_config,
    run_key,
    start,
    train_epoch,
)
from jaxrl_runs import values
from jaxrl_runs.values import OneOf

_MAPPING = OneOf(("vmap", "loop"))


def stack(augmentations: Sequence[Augmentation]) -> Augmentation:
    """One pytree of several augmentations of a kind, with an axis in front.

    Raises:
        ValueError: There is none, or they are not of one kind.
    """
    kinds = {jax.tree.structure(one) for one in augmentations}
    if len(kinds) != 1:
        names = sorted({type(one).__name__ for one in augmentations})
        raise ValueError(
            f"augmentations must be of one kind with the same static settings, got "
            f"{names or 'none'}"
        )
    for one in augmentations:
        values.check(one)
    return jax.tree.map(lambda *x: jnp.asarray(x, jnp.float32), *augmentations)


@functools.partial(jax.jit, static_argnames=("config", "mapping"))
def _train_epochs(config, num_steps, states, pictures, augmentations, key, mapping):
    def one(member):
        state, augmentation = member
        return train_epoch(config, num_steps, state, pictures, augmentation, key)

    if mapping == "vmap":
        return jax.vmap(lambda *member: one(member))(states, augmentations)
    return jax.lax.map(one, (states, augmentations))


def train_population(
    config: PretrainConfig,
    augmentations: Sequence[Augmentation],
    pictures: Pictures,
    score: Callable[[Any], float],
    mapping: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Trains an encoder on each augmentation, and scores all after each epoch.

    Args:
        config: Settings; its augmentation is not looked at.
        augmentations: `P` of one kind.
        pictures: The data.
        score: Takes an encoder.
        mapping: "vmap", all side by side, or "loop", one after the other in one
            program; by default "loop" on CPUs, where grouped convolutions are slow.

    Returns:
        Scores and CPU-seconds, float `[P, num_epochs]`; members share the seconds of an
        epoch's program evenly.

    Raises:
        ValueError: The augmentations are not of one kind.
    """
    policies = stack(augmentations)
    if mapping is None:
        mapping = "loop" if jax.default_backend() == "cpu" else "vmap"
    _MAPPING.check("mapping", mapping)
    number = len(augmentations)
    steps = config.steps_per_epoch(len(pictures))
    num_steps = steps * config.num_epochs
    states: PretrainState = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape)),
        start(config, num_steps),
    )
    unlabelled: Pictures = pictures.replace(labels=None)  # type: ignore[attr-defined]
    scores, seconds = np.zeros((2, number, config.num_epochs))
    for epoch in range(config.num_epochs):
        began = time.process_time()
        states, _ = _train_epochs(
            program_config(config),
            num_steps,
            states,
            unlabelled,
            policies,
            run_key(config),
            mapping,
        )
        jax.block_until_ready(states)
        seconds[:, epoch] = (time.process_time() - began) / number
        for index in range(number):
            state = jax.tree.map(lambda leaf, i=index: leaf[i], states)
            scores[index, epoch] = score(encoder_of(config, state, pictures))
    return scores, seconds

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

from hardviews.augmentations import AUGMENTATION, Augmentation, check_strengths
from hardviews.pictures import Pictures, check_pictures
from hardviews.pretraining import encoder_of
from hardviews.training import (
    CONFIG,
    PretrainConfig,
    PretrainState,
    program_config,
    run_key,
    start,
    steps_per_call,
    take_steps,
    train_epoch,
)
from jaxrl_runs.values import Function, OneOf, shown

_MAPPING = OneOf(("vmap", "loop"))


def stack(augmentations: Sequence[Augmentation]) -> Augmentation:
    """One pytree of several augmentations of a kind, with an axis in front.

    Raises:
        TypeError: They are no list, or one is no augmentation.
        ValueError: There is none, they are not of one kind, or a strength is out of its
            range.
    """
    if not isinstance(augmentations, list | tuple):
        raise TypeError(
            f"augmentations must be a list of them, got {shown(augmentations)}"
        )
    for index, one in enumerate(augmentations):
        AUGMENTATION.check(f"augmentations[{index}]", one)
    kinds = {jax.tree.structure(one) for one in augmentations}
    if len(kinds) != 1:
        names = sorted({type(one).__name__ for one in augmentations})
        raise ValueError(
            f"augmentations must be of one kind with the same static settings, got "
            f"{names or 'none'}"
        )
    for one in augmentations:
        check_strengths(one)
    return jax.tree.map(lambda *x: jnp.asarray(x, jnp.float32), *augmentations)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _side_by_side(config, count, num_steps, states, pictures, augmentations, key):
    def one(state, augmentation):
        return take_steps(config, count, num_steps, state, pictures, augmentation, key)

    return jax.vmap(one)(states, augmentations)


def _epoch_side_by_side(
    config: PretrainConfig,
    num_steps: int,
    states: list[PretrainState],
    pictures: Pictures,
    augmentations: Sequence[Augmentation],
) -> list[PretrainState]:
    policies, number = stack(augmentations), len(augmentations)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    unlabelled: Pictures = pictures.replace(labels=None)  # type: ignore[attr-defined]
    count = steps_per_call(config, len(pictures))
    program, key = program_config(config), run_key(config)
    for _ in range(config.steps_per_epoch(len(pictures)) // count):
        stacked, _ = _side_by_side(
            program, count, num_steps, stacked, unlabelled, policies, key
        )
    return [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(number)]


def _epoch_one_by_one(
    config: PretrainConfig,
    num_steps: int,
    states: list[PretrainState],
    pictures: Pictures,
    augmentations: Sequence[Augmentation],
) -> list[PretrainState]:
    key = run_key(config)
    return [
        train_epoch(config, num_steps, state, pictures, augmentation, key)[0]
        for state, augmentation in zip(states, augmentations, strict=True)
    ]


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
        score: Takes an encoder, gives a number.
        mapping: "vmap", all side by side, or "loop", one after the other by the same
            program; by default "loop" on CPUs, where grouped convolutions are slow.

    Returns:
        Scores and CPU-seconds, float `[P, num_epochs]`; members share the seconds of an
        epoch's program evenly.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: The augmentations are not of one kind.
    """
    CONFIG.check("config", config)
    check_pictures("pictures", pictures)
    Function("(encoder) -> float").check("score", score)
    stack(augmentations)  # Are they of one kind?
    if mapping is None:
        mapping = "loop" if jax.default_backend() == "cpu" else "vmap"
    _MAPPING.check("mapping", mapping)
    epoch_of = _epoch_side_by_side if mapping == "vmap" else _epoch_one_by_one
    number = len(augmentations)
    num_steps = config.steps_per_epoch(len(pictures)) * config.num_epochs
    states = [start(config, num_steps)] * number
    scores, seconds = np.zeros((2, number, config.num_epochs))
    for epoch in range(config.num_epochs):
        began = time.process_time()
        states = epoch_of(config, num_steps, states, pictures, augmentations)
        jax.block_until_ready(states)
        seconds[:, epoch] = (time.process_time() - began) / number
        for index, state in enumerate(states):
            found: Any = score(encoder_of(config, state, pictures))
            if np.shape(found) != ():
                raise ValueError(f"score must give one number, got {shown(found)}")
            scores[index, epoch] = found
    return scores, seconds

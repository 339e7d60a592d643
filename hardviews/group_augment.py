"""GroupAugment: five groups of operations, and eleven numbers that say how often.

Source: Wagner, Ferreira et al., *On the Importance of Hyperparameters and Data
Augmentation for Self-Supervised Learning* (2022). Every view is a random resized crop,
after which `num_groups` groups are drawn without replacement; a drawn group acts with
its probability and then applies some of its operations, drawn without replacement.

Which operations act is drawn as published. The order in which they act is fixed here:
geometry first, composed into one reading of the picture, then colours, quality and what
is exotic. So every operation is computed once per view, whatever the eleven numbers,
and these can be traced.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from hardviews import color, geometry, quality
from hardviews.augmentations import check_call
from jaxrl_runs import values
from jaxrl_runs.values import FRACTION, Number, as_key, traced

GROUPS: dict[str, tuple[str, ...]] = {
    "color": ("jitter", "grey", "solarise", "equalise", "shuffle_channels"),
    "geometric": ("shift_scale_rotate", "flip"),
    "non_rigid": ("elastic", "grid_distortion", "optical_distortion"),
    "quality": ("blur", "noise"),
    "exotic": ("grid_shuffle", "cut_out"),
}


def _count(group: str) -> Number:
    return Number(at_least=1.0, at_most=len(GROUPS[group]), whole=True)


@struct.dataclass
class GroupAugment:
    """A policy of eleven numbers; the defaults are the published prior.

    Attributes:
        p_color: Probability that the group acts when it is drawn.
        p_geometric: The same.
        p_non_rigid: The same.
        p_quality: The same.
        p_exotic: The same.
        n_color: How many of its operations then act, 1 to 5.
        n_geometric: The same, 1 to 2.
        n_non_rigid: The same, 1 to 3.
        n_quality: The same, 1 to 2.
        n_exotic: The same, 1 to 2.
        n_total: How many groups are drawn, 1 to 5.
    """

    p_color: jax.Array | float = traced(0.5, FRACTION)
    p_geometric: jax.Array | float = traced(0.5, FRACTION)
    p_non_rigid: jax.Array | float = traced(0.0, FRACTION)
    p_quality: jax.Array | float = traced(0.0, FRACTION)
    p_exotic: jax.Array | float = traced(0.0, FRACTION)
    n_color: jax.Array | float = traced(1.0, _count("color"))
    n_geometric: jax.Array | float = traced(1.0, _count("geometric"))
    n_non_rigid: jax.Array | float = traced(1.0, _count("non_rigid"))
    n_quality: jax.Array | float = traced(1.0, _count("quality"))
    n_exotic: jax.Array | float = traced(1.0, _count("exotic"))
    n_total: jax.Array | float = traced(1.0, Number(at_least=1, at_most=5, whole=True))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GroupAugment:
        """From a configuration of a search, by the names of the attributes.

        Raises:
            ValueError: A name is unknown, or a value out of its range.
        """
        unknown = sorted(set(config) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"config must name numbers of GroupAugment, got {unknown}")
        policy = cls(**config)
        values.check(policy)
        return policy

    @classmethod
    def space(cls) -> dict[str, tuple[float, ...]]:
        """What a search chooses from, by the names of the attributes.

        Returns:
            Lowest and highest value of each of the five probabilities, `p_...`; all
            values of each of the six counts, `n_...`, in order.
        """
        counts = {group: len(names) for group, names in GROUPS.items()}
        counts["total"] = len(GROUPS)
        found: dict[str, tuple[float, ...]] = {f"p_{g}": (0.0, 1.0) for g in GROUPS}
        return found | {f"n_{g}": tuple(range(1, n + 1)) for g, n in counts.items()}

    def __call__(self, key: Any, image: Any, size: int):
        """Makes one view; see `hardviews.augmentations`."""
        key, image = check_call(self, key, image, size)
        draw_key, box_key, *keys = jax.random.split(key, 2 + len(GROUPS))
        acts = self.draw(draw_key)
        box = geometry.random_box(box_key, image.shape[0])
        where = _moved(keys[0], keys[1], geometry.coordinates(size), acts)
        view = geometry.sample(image, geometry.through_box(where, box))
        for group, group_key in zip((_color, _quality, _exotic), keys[2:], strict=True):
            view = group(group_key, view, acts)
        return view, box

    def draw(self, key: jax.Array | int) -> dict[str, jax.Array]:
        """Draws which operations act.

        Args:
            key: A PRNG key, or a seed.

        Returns:
            bool by operation.
        """
        sizes = [len(GROUPS)] * 2 + [len(names) for names in GROUPS.values()]
        draw = jax.random.uniform(as_key(key), (sum(sizes),))
        order, chance, *within = jnp.split(draw, list(itertools.accumulate(sizes))[:-1])
        is_drawn = color.ranks(order) < self.n_total
        acts = {}
        for index, (group, names) in enumerate(GROUPS.items()):
            group_acts = is_drawn[index] & (chance[index] < getattr(self, f"p_{group}"))
            place = color.ranks(within[index])
            chosen = group_acts & (place < getattr(self, f"n_{group}"))
            acts |= {name: chosen[i] for i, name in enumerate(names)}
        return acts


Acts = Mapping[str, jax.Array]


def _moved(key: jax.Array, bend_key: jax.Array, where: jax.Array, acts: Acts):
    """Geometric and non-rigid operations, as one change of coordinates."""
    keys = jax.random.split(bend_key, 3)
    steps: tuple[tuple[str, Callable[[jax.Array], jax.Array]], ...] = (
        ("flip", geometry.flip),
        ("shift_scale_rotate", lambda x: geometry.shift_scale_rotate(key, x)),
        ("elastic", lambda x: geometry.elastic(keys[0], x)),
        ("grid_distortion", lambda x: geometry.grid_distortion(keys[1], x)),
        ("optical_distortion", lambda x: geometry.optical_distortion(keys[2], x)),
    )
    for name, change in steps:
        where = jnp.where(acts[name], change(where), where)
    return where


def _color(key: jax.Array, view: jax.Array, acts: Acts) -> jax.Array:
    jitter_key, shuffle_key = jax.random.split(key)
    view = jnp.where(acts["jitter"], color.color_jitter(jitter_key, view), view)
    view = jnp.where(acts["grey"], color.grey(view), view)
    view = jnp.where(acts["solarise"], color.solarise(view), view)
    view = jnp.where(acts["equalise"], color.equalise(view), view)
    shuffled = color.shuffle_channels(shuffle_key, view)
    return jnp.where(acts["shuffle_channels"], shuffled, view)


def _quality(key: jax.Array, view: jax.Array, acts: Acts) -> jax.Array:
    draw_key, noise_key = jax.random.split(key)
    draw = jax.random.uniform(draw_key, (2,))
    view = jnp.where(acts["blur"], quality.gaussian_blur(view, 0.5 + draw[0]), view)
    noisy = quality.gaussian_noise(noise_key, view, 0.01 + 0.04 * draw[1])
    return jnp.where(acts["noise"], noisy, view)


def _exotic(key: jax.Array, view: jax.Array, acts: Acts) -> jax.Array:
    shuffle_key, hole_key = jax.random.split(key)
    shuffled = quality.grid_shuffle(shuffle_key, view)
    view = jnp.where(acts["grid_shuffle"], shuffled, view)
    return jnp.where(acts["cut_out"], quality.cut_out(hole_key, view), view)

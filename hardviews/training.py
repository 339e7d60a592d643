"""Pretraining: steps on views, many of them in one program, data on the device.

Everything follows from the configuration and the step's number, so a resumed run is the
run that was interrupted. With two views a step is the plain method's; with more, all
views are looked at first, without gradients, and the hardest two are trained on.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from hardviews.augmentations import (
    AUGMENTATION,
    VIEW_SIZE,
    Augmentation,
    CropAndJitter,
    check_strengths,
    make_view,
)
from hardviews.geometry import overlap
from hardviews.methods import METHOD, Method, SimSiam, check_method
from hardviews.networks import ResNetConfig
from hardviews.pictures import Pictures, standardise
from hardviews.selection import hardest_pairs, pair_losses
from hardviews.weights import Weights, initial_weights, outputs_of
from jaxrl_runs import values
from jaxrl_runs.values import (
    COUNT,
    FRACTION,
    INDEX,
    NOT_NEGATIVE,
    POSITIVE,
    Integer,
    Like,
    as_key,
    setting,
)


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Settings of a pretraining.

    Attributes:
        method: The self-supervised method.
        encoder: Sizes of the network.
        augmentation: What makes views.
        num_views: Views of a picture; of more than two, the hardest pair is kept.
        view_size: Side of a view, in pixels; crops are resized to it, whatever the
            pictures' own side.
        batch_size: Pictures in a step; batch norm and contrasts need two or more.
        num_epochs: Times that each picture is seen, but for the rest of a batch.
        learning_rate: Per 256 pictures of a batch: the peak of a cosine schedule.
        warm_up: Share of the steps in which it rises to its peak.
        momentum: Of stochastic gradient descent.
        weight_decay: Added to the gradient, of all weights.
        seed: Of everything.
    """

    method: Method = setting(SimSiam(), METHOD)
    encoder: ResNetConfig = setting(
        ResNetConfig(), Like("a ResNetConfig", kinds=(ResNetConfig,))
    )
    augmentation: Augmentation = setting(CropAndJitter(), AUGMENTATION)
    num_views: int = setting(2, Integer(at_least=2, at_most=32))
    view_size: int = setting(32, VIEW_SIZE)
    batch_size: int = setting(128, Integer(at_least=2, at_most=2**16))
    num_epochs: int = setting(100, COUNT)
    learning_rate: float = setting(0.06, POSITIVE)
    warm_up: float = setting(0.0, FRACTION)
    momentum: float = setting(0.9, FRACTION)
    weight_decay: float = setting(5e-4, NOT_NEGATIVE)
    seed: int = setting(0, INDEX)

    def __post_init__(self):
        values.check(self)
        check_method("PretrainConfig.method", self.method)
        check_strengths(self.augmentation)

    def steps_per_epoch(self, num_pictures: int) -> int:
        """Whole batches in the pictures.

        Raises:
            ValueError: There are fewer pictures than a batch holds.
        """
        if num_pictures < self.batch_size:
            raise ValueError(
                f"batch_size must be at most the number of pictures, {num_pictures}, "
                f"got {self.batch_size}"
            )
        return num_pictures // self.batch_size


CONFIG = Like("a PretrainConfig", kinds=(PretrainConfig,))


@struct.dataclass
class PretrainState:
    """What a checkpoint holds.

    Attributes:
        weights: Of encoder and heads.
        target: The slow copy, where the method has one; else None.
        optimizer: The optimizer's state.
        step: Steps done, int32.
    """

    weights: Weights
    target: Weights | None
    optimizer: optax.OptState
    step: jax.Array


def make_optimizer(
    config: PretrainConfig, num_steps: jax.Array | int
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum and a cosine; a predictor has none.

    Args:
        config: Settings.
        num_steps: Of the whole training; it may be traced.
    """
    peak = config.learning_rate * config.batch_size / 256

    def schedule(step: jax.Array) -> jax.Array:
        done = step / num_steps
        rise = jnp.minimum(1.0, (done + 1 / num_steps) / max(config.warm_up, 1e-9))
        rest = jnp.clip((done - config.warm_up) / max(1 - config.warm_up, 1e-9), 0, 1)
        return peak * rise * 0.5 * (1 + jnp.cos(jnp.pi * rest))

    # SimSiam's predictor keeps its rate: it has to follow what it predicts.
    fixed = {"predictor"} if isinstance(config.method, SimSiam) else set()

    def label(params: dict) -> dict:
        return {
            name: jax.tree.map(lambda _, kind=kind: kind, part)
            for name, part in params.items()
            for kind in ["fixed" if name in fixed else "cosine"]
        }

    def sgd(rate: Any) -> optax.GradientTransformation:
        return optax.sgd(rate, config.momentum)

    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.multi_transform({"cosine": sgd(schedule), "fixed": sgd(peak)}, label),
    )


def start(config: PretrainConfig, num_steps: int, key: Any = None) -> PretrainState:
    """The state before the first step.

    Args:
        config: Settings.
        num_steps: Of the whole training, for the schedule.
        key: PRNG key of the weights, or a seed; by default that of the configuration's.

    Raises:
        ValueError: The method does not fit together: `outputs` applies a head that
            there is not, leaves one out, or asks for a slow copy without a
            `target_rate`; or `pair_loss` is not one number per picture.
    """
    key = _key(config.seed, "weights") if key is None else as_key(key)
    weights = initial_weights(config, key)
    has_target = config.method.target_rate is not None
    return PretrainState(
        weights=weights,
        target=weights if has_target else None,
        optimizer=make_optimizer(config, num_steps).init(weights.params),
        step=jnp.int32(0),
    )


def _key(seed: int, purpose: str) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), ("weights", "steps").index(purpose))


def make_views(
    config: PretrainConfig,
    augmentation: Augmentation,
    pictures: Pictures,
    rows: Any,
    key: jax.Array | int,
) -> tuple[jax.Array, jax.Array]:
    """Views of some pictures.

    Args:
        config: Settings.
        augmentation: What makes views, its strengths possibly traced.
        pictures: The data.
        rows: Which of them, `[B]`.
        key: A PRNG key, or a seed.

    Returns:
        Standardised views `[V, B, S, S, 3]`, and their boxes `[V, B, 4]`.

    Raises:
        ValueError: The augmentation returns no view of that side and its box.
    """
    images = pictures.images[rows].astype(jnp.float32) / 255
    keys = jax.random.split(as_key(key), (config.num_views, len(rows)))
    one = functools.partial(make_view, augmentation, size=config.view_size)
    views, boxes = jax.vmap(jax.vmap(one), (0, None))(keys, images)
    return standardise(views, pictures.mean, pictures.std), boxes


def train_step(
    config: PretrainConfig,
    optimizer: optax.GradientTransformation,
    state: PretrainState,
    views: jax.Array,
    boxes: jax.Array,
    select: bool | None = None,
) -> tuple[PretrainState, dict[str, jax.Array]]:
    """One step on the views of a batch.

    Args:
        config: Settings.
        optimizer: What `make_optimizer` returns.
        state: Before the step.
        views: Standardised, `[V, B, S, S, 3]`.
        boxes: Their crops, `[V, B, 4]`.
        select: Whether to look for the hardest pair; by default where there are more
            than two views. With two, both come to the same bits.

    Returns:
        The next state, and numbers: "loss", "overlap" of the views trained on, and
        "overlap_random" of the first two.
    """
    random_overlap = jnp.mean(overlap(boxes[0], boxes[1]))
    if len(views) > 2 if select is None else select:
        looked, _ = outputs_of(config, state.weights, state.target, views)
        pairs = hardest_pairs(config.method.pair_loss, looked)
        views, boxes = pairs.take((views, boxes))

    def loss_of(params):
        weights = Weights(params, state.weights.stats)
        outputs, stats = outputs_of(config, weights, state.target, views)
        first = jax.tree.map(lambda leaf: leaf[0], outputs)
        second = jax.tree.map(lambda leaf: leaf[1], outputs)
        return jnp.mean(pair_losses(config.method.pair_loss, first, second)), stats

    params = state.weights.params
    (loss, stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, params)
    weights = Weights(optax.apply_updates(params, updates), stats)  # type: ignore[arg-type]
    rate = config.method.target_rate
    target = state.target
    if rate is not None:
        target = jax.tree.map(lambda t, w: t + rate * (w - t), target, weights)
    metrics = {
        "loss": loss,
        "overlap": jnp.mean(overlap(boxes[0], boxes[1])),
        "overlap_random": random_overlap,
    }
    return PretrainState(weights, target, optimizer_state, state.step + 1), metrics


def take_steps(
    config: PretrainConfig,
    count: int,
    num_steps: jax.Array | int,
    state: PretrainState,
    pictures: Pictures,
    augmentation: Augmentation,
    key: jax.Array | int,
) -> tuple[PretrainState, dict[str, jax.Array]]:
    """Some steps within an epoch, in one program; to be jitted, and maybe vmapped.

    Args:
        config: Settings; its augmentation and seed are not looked at.
        count: How many steps, a divisor of an epoch's.
        num_steps: Of the whole training, for the schedule.
        state: Where a multiple of `count` steps is done.
        pictures: The data, without labels.
        augmentation: What makes views; its leaves are traced.
        key: PRNG key of the whole training, or a seed.

    Returns:
        The state after them, and numbers of each step, `[count]`.
    """
    optimizer, key = make_optimizer(config, num_steps), as_key(key)
    number, batch = len(pictures), config.batch_size
    steps = config.steps_per_epoch(number)
    order_key = jax.random.fold_in(jax.random.fold_in(key, 0), state.step // steps)
    order = jax.random.permutation(order_key, number)

    def step(state, _):
        rows = jax.lax.dynamic_slice(order, [state.step % steps * batch], [batch])
        step_key = jax.random.fold_in(jax.random.fold_in(key, 1), state.step)
        views, boxes = make_views(config, augmentation, pictures, rows, step_key)
        return train_step(config, optimizer, state, views, boxes)

    if count == 1:
        state, numbers = step(state, None)
        return state, jax.tree.map(lambda x: x[None], numbers)
    return jax.lax.scan(step, state, None, count)


_take_steps = jax.jit(take_steps, static_argnums=(0, 1))


def steps_per_call(config: PretrainConfig, num_pictures: int) -> int:
    """Steps in one program: all of an epoch; on CPUs one.

    There, XLA's convolutions are several times slower inside a loop (jaxlib 0.10.2),
    and a step takes so long that calls do not matter.
    """
    is_cpu = jax.default_backend() == "cpu"
    return 1 if is_cpu else config.steps_per_epoch(num_pictures)


def train_epoch(
    config: PretrainConfig,
    num_steps: int,
    state: PretrainState,
    pictures: Pictures,
    augmentation: Augmentation,
    key: jax.Array | int,
) -> tuple[PretrainState, dict[str, jax.Array]]:
    """One epoch: every picture once, in a new order, but for the rest of a batch.

    Args:
        config: Settings; its augmentation and seed are not looked at.
        num_steps: Of the whole training, for the schedule.
        state: At the beginning of an epoch.
        pictures: The data.
        augmentation: What makes views; any strengths share one program.
        key: PRNG key of the whole training, or a seed.

    Returns:
        The state after it, and numbers of its steps, `[steps]` each.
    """
    count = steps_per_call(config, len(pictures))
    program, key = program_config(config), as_key(key)
    augmentation = jax.tree.map(_as_float, augmentation)
    unlabelled: Pictures = pictures.replace(labels=None)  # type: ignore[attr-defined]
    numbers = []
    for _ in range(config.steps_per_epoch(len(pictures)) // count):
        state, found = _take_steps(
            program, count, num_steps, state, unlabelled, augmentation, key
        )
        numbers.append(found)
    return state, jax.tree.map(lambda *x: jnp.concatenate(x), *numbers)


def _as_float(leaf: Any) -> Any:
    """Numbers as float32: 2 and 2.0 share a program."""
    is_number = isinstance(leaf, int | float | np.number) and not isinstance(leaf, bool)
    return jnp.float32(leaf) if is_number else leaf


def run_key(config: PretrainConfig) -> jax.Array:
    """The key that `train_epoch` takes in a run of this seed."""
    return _key(config.seed, "steps")


def program_config(config: PretrainConfig) -> PretrainConfig:
    """The configuration as far as it fixes a program: seeds and strengths share one."""
    return dataclasses.replace(config, seed=0, augmentation=_PLACEHOLDER, num_epochs=1)


_PLACEHOLDER = CropAndJitter()

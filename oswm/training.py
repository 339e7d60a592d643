"""Training of the transformer: fresh synthetic tasks at every step, on the device.

A step draws tasks, fits the closed-form models to each context, and lowers the negative
log likelihood of the queries' residuals and the logarithm of each target's mean squared
error, which counts a factor alike whether errors are tiny or huge, down to the rounding
of the closed-form fits. Devices draw their
own shares of the tasks and average their gradients. Everything follows from the
configuration and the step's number, so a resumed run is the run that was interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl_runs.values import seed_key
from oswm.blended import QUICK_BLENDED
from oswm.closed_form import targets_of
from oswm.context import Context
from oswm.heads import HEADS
from oswm.network import Network, NetworkConfig, Output, init_weights
from oswm.prior.dataset import Dataset
from oswm.prior.default import draw_batch
from oswm.selection import LeaveOneOut
from oswm.tokens import ContextScales, TokenRows, base_of, read_context, read_query

STEPS_PER_CALL = 24
_LARGEST_REST = 30.0  # Beyond it a likelihood says no more.
# Errors below which none is better, in units, and in the target's standard deviation.
_LEAST_ERROR, _ROUNDING = 1e-2, 3e-6
_END_WEIGHT = 0.3


@dataclasses.dataclass(frozen=True)
class TransformerTraining:
    """Settings of a training.

    Attributes:
        network: Sizes of the network.
        base: Models that it blends.
        num_datasets: Tasks per step, over all devices.
        num_passes: How often a task is used, within one call of STEPS_PER_CALL steps.
        num_context: Most rows of a context.
        num_query: Most queries of a task.
        learning_rate: Peak of a cosine schedule with a warm-up of 5 %.
        weight_decay: Of AdamW.
        likelihood_weight: Of the negative log likelihood in the loss.
        mean_weight: Of the logarithm of the mean's squared error.
        seed: Of everything.
    """

    network: NetworkConfig = NetworkConfig()  # noqa: RUF009 (frozen)
    base: LeaveOneOut = QUICK_BLENDED
    num_datasets: int = 16
    num_passes: int = 12
    num_context: int = 256
    num_query: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    likelihood_weight: float = 0.5
    mean_weight: float = 1.0
    seed: int = 0


@struct.dataclass
class TransformerState:
    """What a checkpoint holds.

    Attributes:
        weights: Of the network.
        optimizer: The optimizer's state.
        step: Steps done, int32.
        num_skipped: Steps that were not taken since something was not finite, in a row.
    """

    weights: dict
    optimizer: optax.OptState
    step: jax.Array
    num_skipped: jax.Array


@struct.dataclass
class Lesson:
    """A task as the network sees it, all leaves constants.

    Attributes:
        context: Rows of the context.
        queries: Rows to predict.
        residual: What the base leaves of the queries' targets, in units, [Q, S + 1].
        terminated: [Q].
        weight: Of each query and target in the loss, [Q, S + 1].
        mask: Queries in use, [Q].
        scales: Of the context.
    """

    context: TokenRows
    queries: TokenRows
    residual: jax.Array
    terminated: jax.Array
    weight: jax.Array
    mask: jax.Array
    scales: ContextScales


def make_lesson(dataset: Dataset, base: LeaveOneOut) -> Lesson:
    """Fit the models to a dataset's context and read its rows."""
    context, queries = dataset.context, dataset.queries
    fits, *left_out = base.fit_each(context)
    scales, rows, _ = read_context(context, *left_out)
    means, stds = jax.vmap(base.predict_each, (None, 0, 0), 1)(
        fits, queries.obs, queries.action
    )
    asked = read_query(scales, queries.obs, queries.action, means, stds)
    residual = (targets_of(queries) - base_of(scales, means)) / scales.residual
    return Lesson(
        context=rows,
        queries=asked,
        residual=residual,
        terminated=queries.terminated,
        # What is constant in the context and varies here cannot be learned.
        weight=queries.mask[:, None] * scales.is_live,
        mask=queries.mask,
        scales=scales,
    )


def loss_of(weights: dict, lesson: Lesson, config: TransformerTraining) -> jax.Array:
    """Loss of one lesson."""
    network, head = Network(config.network), HEADS[config.network.head]()
    variables = {"params": weights}
    cache = network.apply(variables, lesson.context, method="encode")
    output = network.apply(variables, cache, lesson.queries, method="decode")
    output = cast(Output, output)
    rest = (lesson.residual - output.blend - output.shift) / output.scale
    near = jnp.clip(rest, -_LARGEST_REST, _LARGEST_REST)
    density = head.log_prob(output.params, near) - jnp.log(output.scale)
    likelihood = lesson.weight * density
    likelihood = jnp.sum(likelihood) / jnp.maximum(jnp.sum(lesson.weight), 1.0)
    number = jnp.sum(lesson.weight, axis=0)
    error = output.scale * (rest - head.mean(output.params))
    error = jnp.sum(lesson.weight * jnp.square(error), axis=0)
    scales = lesson.scales
    least = _LEAST_ERROR + _ROUNDING * scales.target.std / scales.residual
    error = jnp.square(least) + error / jnp.maximum(number, 1.0)
    error = (number > 0) * jnp.log(error)
    error = jnp.sum(error) / jnp.maximum(jnp.sum(number > 0), 1.0)
    ends = optax.sigmoid_binary_cross_entropy(output.terminated, lesson.terminated)
    ends = jnp.sum(lesson.mask * ends) / jnp.maximum(jnp.sum(lesson.mask), 1.0)
    return (
        config.mean_weight * error
        - config.likelihood_weight * likelihood
        + _END_WEIGHT * ends
    )


def make_optimizer(
    learning_rate: float, num_steps: int, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """AdamW with a warm-up and a cosine, gradients cut off at a norm of 1."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=learning_rate,
        warmup_steps=max(1, num_steps // 20),
        decay_steps=num_steps,
        end_value=0.01 * learning_rate,
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.99, weight_decay=weight_decay),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def start(config: TransformerTraining, num_steps: int) -> TransformerState:
    """The state before the first step."""
    weights = init_weights(_key(config, "weights"), config.network)
    return TransformerState(
        weights=weights,
        optimizer=make_optimizer(
            config.learning_rate, num_steps, config.weight_decay
        ).init(weights),
        step=jnp.int32(0),
        num_skipped=jnp.int32(0),
    )


def make_advance(
    config: TransformerTraining,
    num_steps: int,
    draw: Callable[..., Dataset] = draw_batch,
) -> Callable[[TransformerState], tuple[TransformerState, jax.Array]]:
    """Compile STEPS_PER_CALL steps, data-parallel over all devices.

    Args:
        config: Settings.
        num_steps: Of the whole training, which the learning rate's schedule needs.
        draw: The prior: (key, number of datasets, rows of contexts, of queries).

    Returns:
        A function from a state to the state after these steps and its losses.

    Raises:
        ValueError: If the datasets of a step cannot be shared out evenly.
    """
    optimizer = make_optimizer(config.learning_rate, num_steps, config.weight_decay)
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    num_devices = mesh.devices.size
    if config.num_datasets % num_devices:
        raise ValueError(
            f"num_datasets must be a multiple of the {num_devices} devices, got "
            f"{config.num_datasets}"
        )
    if STEPS_PER_CALL % config.num_passes:
        raise ValueError(
            f"num_passes must be a divisor of {STEPS_PER_CALL}, got {config.num_passes}"
        )
    share = config.num_datasets // num_devices

    def batch_loss(weights, lessons):
        return jax.vmap(loss_of, (None, 0, None))(weights, lessons, config).mean()

    def draw_lessons(key):
        datasets = draw(key, share, config.num_context, config.num_query)
        # Side by side on accelerators; what a CPU does in turn stays in its caches.
        together = 1 if jax.default_backend() == "cpu" else share
        return jax.lax.map(
            lambda dataset: make_lesson(dataset, config.base),
            datasets,
            batch_size=together,
        )

    def one_step(state: TransformerState, lessons):
        loss, gradient = jax.value_and_grad(batch_loss)(state.weights, lessons)
        loss, gradient = jax.lax.pmean((loss, gradient), "data")
        updates, optimizer_state = optimizer.update(
            gradient, state.optimizer, state.weights
        )
        new = TransformerState(
            weights=cast(dict, optax.apply_updates(state.weights, updates)),
            optimizer=optimizer_state,
            step=state.step + 1,
            num_skipped=jnp.int32(0),
        )
        is_finite = jnp.isfinite(loss) & jnp.isfinite(_norm(gradient))
        old = dataclasses.replace(
            state, step=new.step, num_skipped=state.num_skipped + 1
        )
        new = jax.tree.map(lambda a, b: jnp.where(is_finite, a, b), new, old)
        return new, loss

    def steps(state):
        """Draw tasks, then take a step on each part of a new order in each pass."""
        key = jax.random.fold_in(_key(config, "tasks"), state.step)
        key = jax.random.fold_in(key, jax.lax.axis_index("data"))
        task_key, order_key = jax.random.split(key)
        num_draws = STEPS_PER_CALL // config.num_passes
        lessons = jax.lax.map(draw_lessons, jax.random.split(task_key, num_draws))
        lessons = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), lessons)
        orders = jax.vmap(lambda k: jax.random.permutation(k, num_draws * share))(
            jax.random.split(order_key, config.num_passes)
        )

        def step(state, rows):
            return one_step(state, jax.tree.map(lambda x: x[rows], lessons))

        return jax.lax.scan(step, state, orders.reshape(STEPS_PER_CALL, share))

    whole = PartitionSpec()
    shared = NamedSharding(mesh, whole)
    compiled = jax.jit(
        jax.shard_map(
            steps, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False
        ),
        in_shardings=shared,
        out_shardings=shared,
    )
    # Where a state lies is part of its type: as it comes from `start` it would be
    # another program than what the first call gives back.
    return lambda state: compiled(jax.device_put(state, shared))


def _norm(tree) -> jax.Array:
    return jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(tree)))


def _key(config: TransformerTraining, purpose: str) -> jax.Array:
    number = {"weights": 0, "tasks": 1}[purpose]
    return jax.random.fold_in(seed_key(config.seed), number)


def paper_batch(
    key: jax.Array, num_datasets: int, num_context: int, num_query: int
) -> Dataset:
    """The paper's prior in the shape of ours, for comparison: no ends, all rows used.

    Discrete actions stay the raw index that the reference stores.
    """
    from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES
    from oswm.prior.paper import NUM_ACTIONS, NUM_STATES, draw_paper_rows

    def one(key):
        rows_key, order_key = jax.random.split(key)
        number = num_context + num_query
        rows = draw_paper_rows(rows_key, 2 * number)
        slots_key, order_key = jax.random.split(order_key)
        slots = jax.random.permutation(slots_key, MAX_STATES)
        index = jax.random.permutation(order_key, 2 * number)[:number]
        rows = jax.tree.map(lambda x: x[index], rows)

        def place(x):
            return jnp.pad(x, ((0, 0), (0, MAX_STATES - NUM_STATES)))[:, slots]

        context = Context(
            obs=place(rows.obs),
            action=jnp.pad(rows.action, ((0, 0), (0, MAX_ACTIONS - NUM_ACTIONS))),
            next_obs=place(rows.next_obs),
            reward=rows.reward,
            terminated=jnp.zeros(number),
            mask=jnp.ones(number),
        )
        mask = jnp.any(context.obs != 0, axis=0).astype(jnp.float32)
        return Dataset(context, mask, num_context)

    return jax.vmap(one)(jax.random.split(key, num_datasets))

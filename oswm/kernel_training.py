"""Training of `oswm.kernel_guess`: through the exact solution of its kernels.

A step draws tasks of the prior and, for each, targets, a polynomial and a length scale
to start from. The network moves relevances and noise; its loss after every round is the
negative log marginal likelihood per row, whose gradient the next round reads anyway,
and after the last one also half the logarithm of the squared error of held-out rows,
which is differentiated through the solution itself.

Everything follows from the configuration and the step's number, so a resumed run is the
run that was interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl_runs import values
from jaxrl_runs.values import MANY, RATE, SEED, Number, seed_key, setting
from oswm.context import Context, Scale
from oswm.features import pairs
from oswm.kernel_guess import GuessConfig, describe, init_guess, walk
from oswm.linalg import matmul
from oswm.prior.dataset import Dataset
from oswm.prior.default import draw_batch
from oswm.relevance import FIRST_NOISE, Flattened, choose_rows, likelihood, per_row
from oswm.training import make_optimizer

NUM_INPUTS = 24  # Most that a lesson shows; the first ones in use.
_NUM_MULTIPLIED = 8  # Of them, in products; a quadratic basis stays small.
_LEAST_SQUARE = 1e-11  # Of a standardised target; float32 has no more digits.
_LARGEST_SLOPE = 1.0  # Natural logarithms per row, of one of an input.
_STARTS = 0.25, 4.0  # Length scales, in units of the root of the number of inputs.


@dataclasses.dataclass(frozen=True)
class GuessTraining:
    """Settings of a training.

    Attributes:
        network: Sizes of the network.
        num_tasks: Tasks that are drawn at a time.
        num_passes: How often they are used, each time with other targets and starts.
        batch_size: Lessons of a step; divides `num_tasks`.
        num_context: Most rows of a context.
        num_rows: Of them, rows that the likelihood looks at.
        num_query: Most rows that are held out, beside the context's other rows.
        learning_rate: Peak of a cosine schedule with a warm-up of 5 %.
        held_out_weight: Of the held-out rows in the loss.
        seed: Of everything.
    """

    network: GuessConfig = GuessConfig()  # noqa: RUF009 (frozen)
    num_tasks: int = setting(96, MANY)
    num_passes: int = setting(2, MANY)
    batch_size: int = setting(16, MANY)
    num_context: int = setting(256, MANY)
    num_rows: int = setting(128, MANY)
    num_query: int = setting(64, MANY)
    learning_rate: float = setting(2e-3, RATE)
    held_out_weight: float = setting(1.0, Number(at_least=0.0))
    seed: int = setting(0, SEED)

    def __post_init__(self):
        values.check(self)
        if self.num_tasks % self.batch_size:
            raise ValueError(
                f"batch_size must be a divisor of num_tasks {self.num_tasks}, got "
                f"{self.batch_size}"
            )

    @property
    def steps_per_call(self) -> int:
        """Steps on the tasks of one draw."""
        return self.num_passes * self.num_tasks // self.batch_size


@struct.dataclass
class Lesson:
    """What a kernel is asked to explain, and where to start.

    Attributes:
        inputs: Standardised, float32 [N, D], 0 in rows that are not in use.
        basis: Features of the polynomial, float32 [N, 1 + P], likewise.
        targets: Standardised, float32 [N, O], likewise; 0 for those not asked.
        mask: [N].
        queries: The same of all rows of the task, of which those above are not asked
            for: inputs [Q, D].
        query_basis: [Q, 1 + P].
        query_targets: [Q, O].
        query_mask: [Q].
        start: Relevances, [D].
    """

    inputs: jax.Array
    basis: jax.Array
    targets: jax.Array
    mask: jax.Array
    queries: jax.Array
    query_basis: jax.Array
    query_targets: jax.Array
    query_mask: jax.Array
    start: jax.Array


def make_lesson(key: jax.Array, dataset: Dataset, num_rows: int) -> Lesson:
    """Draw what is asked of a task.

    A third of lessons is about a reward, a third about one observation, a third about
    all of them, which then share a kernel.
    """
    keys = jax.random.split(key, 4)
    rows, context = dataset.rows, dataset.context
    kind = jax.random.randint(keys[0], (), 0, 3)
    every = jnp.concatenate(
        [rows.obs, rows.action, rows.next_obs * (kind == 0)], axis=1
    )
    table, is_live = _standardised(every, context)
    first = jnp.argsort(~is_live, stable=True)[:NUM_INPUTS]
    table = table[:, first]
    change = jnp.concatenate([rows.next_obs - rows.obs, rows.reward[:, None]], axis=1)
    targets, varies = _standardised(change, context)
    target = jax.random.categorical(
        keys[1], jnp.where(varies.at[-1].set(False), 0.0, -1e9)
    )
    slots = jnp.arange(len(varies))
    asked = jnp.select(
        [kind == 0, kind == 1], [slots == slots[-1], slots == target], slots < slots[-1]
    )
    targets = targets * (asked & varies)
    first, second = pairs(_NUM_MULTIPLIED)
    is_quadratic = jax.random.bernoulli(keys[2])
    products = is_quadratic * table[:, first] * table[:, second]
    basis = jnp.concatenate([jnp.ones((len(table), 1)), table, products], axis=1)
    number = len(context.mask)
    chosen = choose_rows(context.mask, min(num_rows, number))
    mask = context.mask[chosen]
    used = jnp.any(table[:number] != 0, axis=0).astype(jnp.float32)
    low, high = jnp.log(jnp.array(_STARTS))
    scale = jnp.exp(jax.random.uniform(keys[3], minval=low, maxval=high))
    return Lesson(
        inputs=mask[:, None] * table[chosen],
        basis=mask[:, None] * basis[chosen],
        targets=mask[:, None] * targets[chosen],
        mask=mask,
        queries=table,
        query_basis=basis,
        query_targets=targets,
        query_mask=rows.mask.at[chosen].set(0.0),
        start=used / jnp.sqrt(jnp.maximum(jnp.sum(used), 1.0)) / scale,
    )


def _standardised(table: jax.Array, context: Context) -> tuple[jax.Array, jax.Array]:
    """Columns as the context's rows scale them, and which of them vary there."""
    number = len(context.mask)
    scale = Scale.of(table[:number], context.mask)
    table = scale.normalize(table)
    varies = jnp.any(context.mask[:, None] * table[:number] != 0, axis=0)
    return jnp.clip(table, -20.0, 20.0) * varies, varies


def held_out_errors(lesson: Lesson, flat: Flattened, place: jax.Array) -> jax.Array:
    """Mean squared error of held-out rows by the exact solution, [O].

    Args:
        lesson: The lesson.
        flat: What the polynomial leaves of its targets.
        place: Logarithms of relevances and of the noise, [D + 1].
    """
    used = (lesson.start > 0).astype(jnp.float32)
    scale, noise = used * jnp.exp(place[:-1]), jnp.exp(place[-1])
    points, asked = scale * lesson.inputs, scale * lesson.queries
    outer = lesson.mask[:, None] * lesson.mask
    covariance = outer * _kernel(points, points)
    across = lesson.mask * _kernel(asked, points)
    query_basis = matmul(lesson.query_basis, flat.half.T)
    size = len(points)
    inverse = jnp.linalg.inv(flat.project(covariance) + noise * jnp.eye(size))
    # What the polynomial makes of the kernel's part in the rows is taken off again.
    across = across - matmul(query_basis, matmul(flat.basis.T, covariance))
    across = across - matmul(matmul(across, flat.basis), flat.basis.T)
    mean = matmul(across, matmul(inverse, flat.targets))
    mean = mean + matmul(query_basis, matmul(flat.basis.T, lesson.targets))
    squared = jnp.square(lesson.query_targets - mean)
    number = jnp.maximum(jnp.sum(lesson.query_mask), 1.0)
    return jnp.sum(lesson.query_mask[:, None] * squared, axis=0) / number


def _kernel(a, b):
    square = jnp.sum(jnp.square(a), axis=1)[:, None] + jnp.sum(jnp.square(b), axis=1)
    return jnp.exp(jnp.minimum(matmul(a, b.T) - 0.5 * square, 0.0))


def loss_of(weights: dict, lesson: Lesson, config: GuessTraining) -> jax.Array:
    """Loss of one lesson, in natural logarithms per row and target."""
    used = (lesson.start > 0).astype(jnp.float32)
    flat = Flattened.of(lesson.basis, lesson.targets, lesson.mask)
    asked = jnp.sum(jnp.square(flat.targets), axis=0) > 0
    number = jnp.maximum(jnp.sum(asked), 1.0)
    rate = per_row(flat)

    def at(place):
        value, slope = likelihood(lesson.inputs, flat, place, used, None)
        return rate * value, rate * slope

    log_start = jnp.log(jnp.where(used > 0, lesson.start, 1.0))
    start = jnp.append(log_start, jnp.log(FIRST_NOISE))
    about = describe(lesson.inputs, flat.targets, lesson.mask, flat.num_free)
    path = walk(weights, config.network, at, start, used, about)
    last = path.places[-1]
    met = jax.lax.stop_gradient(at(last))
    values = jax.vmap(_along)(path.places[1:-1], path.values[1:], path.slopes[1:])
    likelihoods = 0.25 * jnp.sum(values) / max(len(values), 1) + _along(last, *met)

    def log_error(place):
        error = held_out_errors(lesson, flat, place) + _LEAST_SQUARE
        return 0.5 * jnp.sum(asked * jnp.log(error)) / number

    value, slope = jax.value_and_grad(log_error)(jax.lax.stop_gradient(last))
    is_held_out = jnp.sum(lesson.query_mask) > 0
    error = jnp.where(is_held_out, _along(last, value, slope), 0.0)
    loss = config.held_out_weight * error - likelihoods
    is_one = jnp.any(asked) & (jnp.sum(lesson.mask) > 8)
    return jnp.where(is_one & jnp.isfinite(loss), loss, 0.0)


def _along(place: jax.Array, value: jax.Array, slope: jax.Array) -> jax.Array:
    """`value`, whose gradient is a slope that was computed beside it.

    Where a matrix is close to singular a slope may be anything: it is cut off.
    """
    value, slope, fixed = jax.lax.stop_gradient((value, slope, place))
    slope = jnp.clip(jnp.nan_to_num(slope), -_LARGEST_SLOPE, _LARGEST_SLOPE)
    return value + jnp.sum(slope * (place - fixed))


@struct.dataclass
class GuessState:
    """What a checkpoint holds.

    Attributes:
        weights: Of the network.
        optimizer: The optimizer's state.
        step: Steps done, int32.
    """

    weights: dict
    optimizer: optax.OptState
    step: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 1))
def start(config: GuessTraining, num_steps: int) -> GuessState:
    """The state before the first step."""
    weights = init_guess(jax.random.fold_in(seed_key(config.seed), 0), config.network)
    optimizer = make_optimizer(config.learning_rate, num_steps).init(weights)
    return GuessState(weights, optimizer, jnp.int32(0))


@functools.cache
def make_learn(
    config: GuessTraining, num_steps: int
) -> Callable[[GuessState, Dataset, jax.Array], tuple[GuessState, jax.Array]]:
    """Compiles the steps on the tasks of one draw.

    Args:
        config: Settings.
        num_steps: Of the whole training, which the learning rate's schedule needs.

    Returns:
        A function from a state, tasks and a key to the state after
        `config.steps_per_call` steps, and their losses. Steps that are not finite
        change nothing.
    """
    optimizer = make_optimizer(config.learning_rate, num_steps)

    def batch_loss(weights, lessons):
        # One after the other while a core is all there is, else side by side.
        size = None if jax.default_backend() == "cpu" else config.batch_size
        each = jax.lax.map(
            lambda lesson: loss_of(weights, lesson, config), lessons, batch_size=size
        )
        return jnp.mean(each)

    def step(state, keys_and_tasks):
        keys, tasks = keys_and_tasks
        lessons = jax.vmap(make_lesson, (0, 0, None))(keys, tasks, config.num_rows)
        loss, gradient = jax.value_and_grad(batch_loss)(state.weights, lessons)
        updates, moments = optimizer.update(gradient, state.optimizer, state.weights)
        weights = optax.apply_updates(state.weights, updates)
        power = sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(gradient))
        is_finite = jnp.isfinite(loss) & jnp.isfinite(power)
        weights, moments = jax.tree.map(
            lambda new, old: jnp.where(is_finite, new, old),
            (weights, moments),
            (state.weights, state.optimizer),
        )
        return GuessState(cast(dict, weights), moments, state.step + 1), loss

    @jax.jit
    def learn(state, tasks, key):
        order_key, ask_key = jax.random.split(key)
        order = jax.vmap(lambda k: jax.random.permutation(k, config.num_tasks))(
            jax.random.split(order_key, config.num_passes)
        )
        shape = config.steps_per_call, config.batch_size
        keys = jax.random.split(ask_key, shape)

        def one(state, asked):
            keys, rows = asked
            return step(state, (keys, jax.tree.map(lambda x: x[rows], tasks)))

        return jax.lax.scan(one, state, (keys, order.reshape(shape)))

    return learn


def make_advance(
    config: GuessTraining,
    num_steps: int,
    draw: Callable[..., Dataset] = draw_batch,
) -> Callable[[GuessState], tuple[GuessState, jax.Array]]:
    """Draws tasks, then `make_learn`'s steps on them; two programs.

    Args:
        config: Settings.
        num_steps: Of the whole training.
        draw: The prior: (key, number of datasets, rows of contexts, of queries).
    """
    learn = make_learn(config, num_steps)
    draw_tasks = jax.jit(draw, static_argnums=(1, 2, 3))
    key = jax.random.fold_in(seed_key(config.seed), 1)
    sizes = config.num_tasks, config.num_context, config.num_query

    def advance(state):
        task_key, learn_key = jax.random.split(jax.random.fold_in(key, state.step))
        return learn(state, draw_tasks(task_key, *sizes), learn_key)

    return advance

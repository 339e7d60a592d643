"""Meta-training of the surrogates: a ``lax.scan``, vmapped over folds x members."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from tqdm import tqdm

from finetune import gp
from finetune.encoding import fit_encoder, history_features
from finetune.meta_dataset import MetaDataset
from finetune.surrogate import Prior, Surrogate, apply_member, init_weights
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, MANY, NOT_NEGATIVE, RATE, WIDTH, Integer, setting


@dataclasses.dataclass(frozen=True)
class MetaTrainConfig:
    """Settings of a meta-training.

    Attributes:
        num_steps: Gradient steps.
        num_tasks: Datasets drawn per step.
        num_context: Most examples of a dataset that are conditioned on in a step.
        num_query: Examples of each dataset that are predicted in a step.
        learning_rate: Peak of a cosine schedule with a warm-up of 5 %.
        weight_decay: Of AdamW.
        num_members: Size of the ensemble.
        num_hidden: Width of the perceptron.
        num_features: Size of the deep kernel.
        num_meta_examples: Meta-training examples kept as evidence (N1).
    """

    num_steps: int = setting(1500, COUNT)
    num_tasks: int = setting(2, MANY)
    num_context: int = setting(32, MANY)
    num_query: int = setting(32, MANY)
    learning_rate: float = setting(2e-3, RATE)
    weight_decay: float = setting(1e-2, NOT_NEGATIVE)
    num_members: int = setting(3, Integer(at_most=256))
    num_hidden: int = setting(64, WIDTH)
    num_features: int = setting(16, WIDTH)
    num_meta_examples: int = setting(4096, MANY)

    def __post_init__(self):
        values.check(self)


class Runs(struct.PyTreeNode):
    """Meta-training runs on the device.

    Legend: ``D`` datasets, ``R`` the most runs of a dataset, ``T`` epochs.

    Attributes:
        history: History features of each run and start, ``[D, R, T, K]``.
        curves: Accuracies; after the last epoch of a run its last value, ``[D, R, T]``.
        log_cost: Log of the mean seconds of an epoch, ``[D, R]``.
        lengths: Epochs of each run, ``[D, R]``.
        count: Runs of each dataset, ``[D]``.
    """

    history: jax.Array
    curves: jax.Array
    log_cost: jax.Array
    lengths: jax.Array
    count: jax.Array


class Examples(NamedTuple):
    """Indices of examples: which run, how much of it is known, what is asked.

    Attributes:
        dataset: ``[...]``.
        run: ``[...]``.
        start: Number of known epochs, ``[...]``.
        target: Epoch that is asked for, ``[...]``.
    """

    dataset: jax.Array
    run: jax.Array
    start: jax.Array
    target: jax.Array


def pad_runs(data: MetaDataset) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Lay the runs out per dataset, padded to the largest one.

    Returns:
        Arrays ``vectors [D, R, H]``, ``curves [D, R, T]``, ``costs [D, R, T]``,
        ``lengths [D, R]`` (0 for padding), and the run indices ``[D, R]`` (-1).
    """
    count = np.bincount(data.dataset, minlength=data.num_datasets)
    index = np.full((data.num_datasets, count.max()), -1, np.int32)
    for dataset in range(data.num_datasets):
        index[dataset, : count[dataset]] = np.flatnonzero(data.dataset == dataset)
    lengths = data.lengths
    last = np.take_along_axis(data.curves, lengths[:, None] - 1, 1)
    curves = np.where(np.isfinite(data.curves), data.curves, last)
    mean_cost = np.nanmean(data.costs, 1, keepdims=True)
    costs = np.where(np.isfinite(data.costs), data.costs, mean_cost)
    padded = {
        "vectors": data.vectors[index],
        "curves": curves[index],
        "costs": costs[index],
        "lengths": np.where(index >= 0, lengths[index], 0),
    }
    return padded, index


def make_runs(data: MetaDataset) -> tuple[Runs, np.ndarray]:
    """Lay a meta-dataset out on the device.

    Returns:
        The runs, and their configurations ``[D, R, H]``.
    """
    padded, index = pad_runs(data)
    curves = jnp.asarray(padded["curves"])
    runs = Runs(
        history=jax.jit(jax.vmap(jax.vmap(history_features)))(curves),
        curves=curves,
        log_cost=jnp.log(jnp.asarray(padded["costs"]).mean(-1)),
        lengths=jnp.asarray(padded["lengths"]),
        count=jnp.asarray((index >= 0).sum(1)),
    )
    return runs, padded["vectors"]


def draw_examples(
    key: jax.Array, runs: Runs, dataset: jax.Array, num_epochs: int
) -> Examples:
    """Draw a run, a history length and a later target epoch for each dataset index.

    A quarter of the examples has no history and half of them ask for the next epoch,
    the rest for any later one. A run that ended early keeps its last value, so that
    "how far will it have come by epoch t" has an answer for each t.
    """
    run_key, start_key, target_key, fresh_key, near_key = jax.random.split(key, 5)
    shape = dataset.shape
    uniform = jax.random.uniform(run_key, shape)
    run = (uniform * runs.count[dataset]).astype(jnp.int32)
    longest = jnp.minimum(runs.lengths[dataset, run], num_epochs - 1)
    start = (jax.random.uniform(start_key, shape) * longest).astype(jnp.int32)
    start = jnp.where(jax.random.uniform(fresh_key, shape) < 0.25, 0, start)
    ahead = jax.random.uniform(target_key, shape) * (num_epochs - start)
    target = start + 1 + ahead.astype(jnp.int32)
    near = jax.random.uniform(near_key, shape) < 0.5
    return Examples(dataset, run, start, jnp.where(near, start + 1, target))


def predict_examples(
    surrogate: Surrogate, weights: dict, inputs: jax.Array, runs: Runs, at: Examples
) -> tuple[Prior, jax.Array]:
    """Apply one member to examples.

    Args:
        surrogate: The surrogate.
        weights: Of one member.
        inputs: Encoded configurations, ``[D, R, C]``.
        runs: The runs.
        at: Which examples, ``[...]``.

    Returns:
        Predictions before any evidence, and the true targets ``[...]``.
    """
    prior = apply_member(
        surrogate,
        weights,
        inputs[at.dataset, at.run],
        runs.history[at.dataset, at.run, at.start],
        at.start,
        at.target,
    )
    if surrogate.is_cost:
        return prior, runs.log_cost[at.dataset, at.run]
    return prior, runs.curves[at.dataset, at.run, at.target - 1]


def _query_loss(prior: Prior, truth: jax.Array, num_known, num_context, ard):
    """Negative log-density per query of one dataset, given its first examples."""
    context, query = slice(0, num_context), slice(num_context, None)
    evidence = gp.gather_evidence(
        prior.features[context],
        (truth - prior.mean)[context],
        prior.noise[context],
        (jnp.arange(num_context) < num_known).astype(truth.dtype),
    )
    shift, var = gp.predict(evidence, ard, prior.features[query])
    var = var + prior.noise[query]
    error = truth[query] - prior.mean[query] - shift
    return 0.5 * jnp.mean(error**2 / var + jnp.log(2 * jnp.pi * var))


def _make_optimizer(config: MetaTrainConfig) -> optax.GradientTransformation:
    """AdamW with clipped gradients, warm-up and a cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.num_steps // 20, config.num_steps
    )
    return optax.chain(
        optax.clip_by_global_norm(10.0),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )


def _start_member(key, surrogate, runs, dataset_weights, config):
    """Draw the initial weights, and what all steps of one member see.

    Returns:
        Weights and optimiser state; examples ``[steps, tasks, context + query]`` with
        the number of known ones of each context ``[steps, tasks]``.
    """
    init_key, task_key, example_key, count_key = jax.random.split(key, 4)
    weights = init_weights(init_key, surrogate)
    shape = (config.num_steps, config.num_tasks)
    size = config.num_context + config.num_query
    tasks = jax.random.choice(
        task_key, len(dataset_weights), (*shape, 1), p=dataset_weights
    )
    examples = draw_examples(
        example_key, runs, jnp.tile(tasks, size), surrogate.num_epochs
    )
    num_known = jax.random.randint(count_key, shape, 0, config.num_context + 1)
    state = _make_optimizer(config).init(weights)
    return (weights, state), (examples, num_known)


def _advance_member(carry, drawn, surrogate, inputs, runs, config):
    """Take the steps of some draws."""
    optimizer = _make_optimizer(config)

    def step(carry, drawn):
        weights, state = carry
        examples, num_known = drawn

        def loss_fn(weights):
            prior, truth = predict_examples(surrogate, weights, inputs, runs, examples)
            ard = jnp.exp(weights["log_ard"])
            losses = jax.vmap(_query_loss, in_axes=(0, 0, 0, None, None))(
                prior, truth, num_known, config.num_context, ard
            )
            return losses.mean()

        updates, state = optimizer.update(jax.grad(loss_fn)(weights), state, weights)
        return (optax.apply_updates(weights, updates), state), None

    return jax.lax.scan(step, carry, drawn)[0]


def train_member(key, surrogate, inputs, runs, dataset_weights, config):
    """Meta-train one member on the datasets with positive weight."""
    carry, drawn = _start_member(key, surrogate, runs, dataset_weights, config)
    return _advance_member(carry, drawn, surrogate, inputs, runs, config)[0]


def scan_in_parts(
    advance: Callable[[Any, Any, Any], Any],
    carry: Any,
    drawn: Any,
    fixed: Any,
    label: str,
) -> Any:
    """Scan in up to 20 calls of one compiled program, with a progress bar between.

    Args:
        advance: (carry, draws of some steps, fixed) -> carry, for all folds and
            members.
        carry: At the start.
        drawn: Draws of all steps, leaves ``[folds, members, steps, ..]``.
        fixed: What all steps see.
        label: Of the bar, which is shown on terminals only.

    Returns:
        The last carry.
    """
    num_steps = jax.tree.leaves(drawn)[0].shape[2]
    num_parts = next(n for n in range(20, 0, -1) if num_steps % n == 0)
    size = num_steps // num_parts

    @jax.jit
    def part(carry, drawn, fixed, start):
        def cut(x):
            return jax.lax.dynamic_slice_in_dim(x, start, size, axis=2)

        return advance(carry, jax.tree.map(cut, drawn), fixed)

    for i in tqdm(range(num_parts), label, leave=False, disable=None):
        carry = jax.block_until_ready(part(carry, drawn, fixed, i * size))
    return carry


def _meta_evidence(key, surrogate, weights, inputs, runs, dataset_weights, config):
    """Condition a member on a fixed subset of meta-training examples."""
    dataset_key, example_key = jax.random.split(key)
    num = config.num_meta_examples
    datasets = jax.random.choice(
        dataset_key, len(dataset_weights), (num,), p=dataset_weights
    )
    at = draw_examples(example_key, runs, datasets, surrogate.num_epochs)
    prior, truth = predict_examples(surrogate, weights, inputs, runs, at)
    return gp.gather_evidence(
        prior.features, truth - prior.mean, prior.noise, jnp.ones(num)
    )


def meta_train(
    key: jax.Array,
    data: MetaDataset,
    config: MetaTrainConfig = MetaTrainConfig(),
    folds: Sequence[Sequence[int]] | None = None,
    is_cost: bool = False,
) -> list[Surrogate]:
    """Meta-train an ensemble for each fold, all in one program.

    Args:
        key: Random key.
        data: The meta-dataset.
        config: Settings.
        folds: For each fold the datasets to learn from; None: one fold, all datasets.
        is_cost: Train the cost surrogate.

    Returns:
        One surrogate per fold.
    """
    folds = [range(data.num_datasets)] if folds is None else folds
    dataset_weights = np.zeros((len(folds), data.num_datasets), np.float32)
    runs, vectors = make_runs(data)
    surrogates, inputs = [], []
    for row, fold in zip(dataset_weights, folds, strict=True):
        row[list(fold)] = 1 / len(fold)
        known = data.subset(list(fold))
        encoder = fit_encoder(data.space, known.vectors, known.meta_features)
        log_cost = np.log(np.nanmean(known.costs, 1))
        surrogate = Surrogate(
            weights={},
            encoder=encoder,
            evidence=None,
            target_mean=jnp.asarray(log_cost.mean(), jnp.float32),
            target_scale=jnp.asarray(max(log_cost.std(), 1e-3), jnp.float32),
            num_epochs=data.num_epochs,
            num_hidden=config.num_hidden,
            num_features=config.num_features,
            is_cost=is_cost,
        )
        surrogates.append(surrogate)
        inputs.append(encoder(vectors, data.meta_features[:, None, :]))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *surrogates)
    keys = jax.random.split(key, (len(folds), config.num_members))
    weights, evidence = _train_folds(
        keys, stacked, jnp.stack(inputs), runs, jnp.asarray(dataset_weights), config
    )
    return [
        surrogate.replace(
            weights=jax.tree.map(lambda x, i=i: x[i], weights),
            evidence=jax.tree.map(lambda x, i=i: x[i], evidence),
        )
        for i, surrogate in enumerate(surrogates)
    ]


def _train_folds(keys, surrogates, inputs, runs, dataset_weights, config):
    """Train ``[folds, members]`` members at once."""

    def over_all(function, num_of_members):
        """Over folds and members; the arguments after those of members are shared."""
        member_axes = (0,) * num_of_members + (None, None)
        fold_axes = (0,) * num_of_members + (0, None)
        return jax.vmap(jax.vmap(function, member_axes), fold_axes)

    def start(key, fold, runs):
        surrogate, _, dataset_weights = fold
        return _start_member(key, surrogate, runs, dataset_weights, config)

    def advance(carry, drawn, fold, runs):
        surrogate, inputs, _ = fold
        return _advance_member(carry, drawn, surrogate, inputs, runs, config)

    def condition(key, weights, fold, runs):
        surrogate, inputs, dataset_weights = fold
        return _meta_evidence(
            key, surrogate, weights, inputs, runs, dataset_weights, config
        )

    both = jax.vmap(jax.vmap(jax.random.split))(keys)
    train_keys, evidence_keys = both[..., 0], both[..., 1]
    folds = (surrogates, inputs, dataset_weights)
    carry, drawn = jax.jit(over_all(start, 1))(train_keys, folds, runs)
    weights, _ = scan_in_parts(
        lambda carry, drawn, fixed: over_all(advance, 2)(carry, drawn, *fixed),
        carry,
        drawn,
        (folds, runs),
        "cost surrogate" if surrogates.is_cost else "performance surrogate",
    )
    evidence = jax.jit(over_all(condition, 2))(evidence_keys, weights, folds, runs)
    return weights, evidence


def leave_datasets_out(
    num_datasets: int, num_folds: int = 5, seed: int = 42
) -> tuple[list[list[int]], list[list[int]]]:
    """Split datasets into folds: shuffled, then dataset i goes to fold i mod num_folds.

    With the default seed this is the split of the Quick-Tune repository.

    Returns:
        For each fold the datasets to train on, and those left out.
    """
    order = np.arange(num_datasets)
    np.random.default_rng(seed).shuffle(order)
    held_out = [sorted(order[i::num_folds].tolist()) for i in range(num_folds)]
    train = [sorted(set(range(num_datasets)) - set(out)) for out in held_out]
    return train, held_out

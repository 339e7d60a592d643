"""Replays on a table that change their surrogate on the way: refit, and the reference.

The refit happens when the number of observed epochs has doubled, so that a run of a
thousand epochs costs eight refits instead of a thousand.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from finetune import reference as ref
from finetune.encoding import history_features
from finetune.policy import expected_improvement, make_lookup, surrogate_policy
from finetune.refit import History, RefitConfig, refit
from finetune.simulate import LoopState, Table, regret, run_loop, start_state
from finetune.surrogate import Surrogate

ROUND_ENDS = (8, 16, 32, 64, 128, 256, 512, 1_000_000)


def table_history(
    surrogate: Surrogate, vectors, meta_features, table: Table, state: LoopState, num
) -> History:
    """Collect two examples of each of the ``num`` most trained runs, ``[2 num]``.

    What the run has reached is asked for once from nothing and once from the epoch
    before.
    """
    order = jnp.argsort(-state.epochs)[:num]
    epochs = state.epochs[order]
    before = jnp.maximum(epochs - 1, 0)
    inputs = surrogate.encoder(vectors[order], meta_features)
    features = jax.vmap(history_features)(table.curves[order])
    rows = jnp.arange(len(order))
    whole = History(
        inputs=inputs,
        history=features[:, 0],
        start=jnp.zeros_like(epochs),
        target=jnp.maximum(epochs, 1),
        truth=state.last[order],
        mask=(epochs > 0).astype(jnp.float32),
    )
    step = whole.replace(
        history=features[rows, before],
        start=before,
        mask=(epochs > 1).astype(jnp.float32),
    )
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), whole, step)


def replay_fixed(
    key: jax.Array,
    performance: Surrogate,
    cost: Surrogate,
    vectors: jax.Array,
    meta_features: jax.Array,
    table: Table,
    grid: jax.Array,
    overheads: tuple[float, ...] = (0.0,),
    own_history: bool = True,
) -> jax.Array:
    """Replay our policy without refit.

    Args:
        key: Random key (the policy is deterministic).
        performance: Performance surrogate.
        cost: Cost surrogate.
        vectors: Configurations ``[R, H]``.
        meta_features: Of the dataset, ``[M]``.
        table: The runs.
        grid: Times in seconds, ``[G]``.
        overheads: Seconds that one decision takes.
        own_history: Condition on the task's own history (N2), else on meta-training
            examples (N1).

    Returns:
        Normalised regret for each overhead on the grid, ``[K, G]``.
    """
    lookup = make_lookup(performance, cost, vectors, meta_features, table, own_history)
    state = start_state(table, grid, len(overheads))
    state = run_loop(surrogate_policy, key, lookup, table, state, grid, overheads)
    return regret(table, state.trace)


def replay_with_refit(
    key: jax.Array,
    performance: Surrogate,
    cost: Surrogate,
    vectors: jax.Array,
    meta_features: jax.Array,
    table: Table,
    grid: jax.Array,
    overheads: tuple[float, ...] = (0.0,),
    config: RefitConfig = RefitConfig(),  # noqa: B008 (frozen)
    num_runs: int = 64,
) -> jax.Array:
    """Replay our policy with a refit at every doubling of the history.

    Returns:
        Normalised regret for each overhead on the grid, ``[K, G]``.
    """
    first = make_lookup(performance, cost, vectors, meta_features, table, True)
    state = run_loop(
        surrogate_policy,
        key,
        first,
        table,
        start_state(table, grid, len(overheads)),
        grid,
        overheads,
        ROUND_ENDS[0],
    )

    def one_round(state, end):
        rows = table_history(
            performance, vectors, meta_features, table, state, num_runs
        )
        fitted = refit(performance, rows, config)
        lookup = make_lookup(fitted, cost, vectors, meta_features, table, True)
        state = run_loop(
            surrogate_policy, key, lookup, table, state, grid, overheads, end
        )
        return state, None

    state, _ = jax.lax.scan(one_round, state, jnp.asarray(ROUND_ENDS[1:]))
    return regret(table, state.trace)


class ReferenceMemory(struct.PyTreeNode):
    """Exact posterior of the reference's GP, extended by one observation at a time.

    Legend: ``n`` rows of history (padded), ``R`` candidates.

    Attributes:
        run: Which run each row is of, ``[n]``.
        epoch: Which epoch, counted from 1, ``[n]``.
        count: Rows in use.
        features: ``[n, 32]``.
        factor: Cholesky factor; an identity block for the padding, ``[n, n]``.
        target: Solve of the factor with the centred targets, ``[n]``.
        candidates: Features of the next epoch of each run, ``[R, 32]``.
        cross: Solve of the factor with their covariances, ``[n, R]``.
    """

    run: jax.Array
    epoch: jax.Array
    count: jax.Array
    features: jax.Array
    factor: jax.Array
    target: jax.Array
    candidates: jax.Array
    cross: jax.Array


def _reference_at(data, table: Table, run, epoch):
    """Features of asking run(s) for an epoch, ``[n, 32]``."""
    return ref.reference_features(
        data["weights"],
        data["inputs"][run],
        *ref.ask_epoch(table.curves[run], epoch),
        jnp.broadcast_to(data["meta"], (len(run), 4)),
    )


def _rebuild(data, table: Table, memory: ReferenceMemory, epochs) -> ReferenceMemory:
    """Recompute everything for new weights."""
    gp = ref.gp_parameters(data["weights"])
    mask = (jnp.arange(len(memory.run)) < memory.count).astype(jnp.float32)
    features = _reference_at(data, table, memory.run, memory.epoch)
    factor = ref.factor(features, mask, gp)
    truth = table.curves[memory.run, memory.epoch - 1]
    target = (truth - gp["constant_mean"]) * mask
    candidates = _reference_at(data, table, jnp.arange(len(epochs)), epochs + 1)
    kernel = ref.rbf(features, candidates, gp["outputscale"], gp["lengthscale"])
    right = jnp.concatenate([kernel * mask[:, None], target[:, None]], 1)
    half = jax.scipy.linalg.solve_triangular(factor, right, lower=True)
    return memory.replace(
        features=features,
        factor=factor,
        target=half[:, -1],
        candidates=candidates,
        cross=half[:, :-1],
    )


def _append(data, table: Table, state: LoopState) -> ReferenceMemory:
    """Add the epoch that was just trained, and ask for the next one of its run.

    Rows beyond the size of the memory are not added.
    """
    memory: ReferenceMemory = state.memory
    gp = ref.gp_parameters(data["weights"])
    run = state.current
    epoch = state.epochs[run]
    row = memory.count
    fits = row < len(memory.run)
    row = jnp.minimum(row, len(memory.run) - 1)
    used = jnp.arange(len(memory.run)) < row

    def kernel(a, b):
        return ref.rbf(a, b, gp["outputscale"], gp["lengthscale"])

    feature = memory.candidates[run]
    covariance = jnp.where(used, kernel(memory.features, feature[None])[:, 0], 0.0)
    half = jax.scipy.linalg.solve_triangular(memory.factor, covariance, lower=True)
    pivot = gp["outputscale"] + gp["noise"] - half @ half
    pivot = jnp.sqrt(jnp.maximum(pivot, 1e-6))
    error = state.last[run] - gp["constant_mean"] - half @ memory.target
    cross = kernel(feature[None], memory.candidates)[0] - half @ memory.cross
    factor = memory.factor.at[row].set(half.at[row].set(pivot))
    features = memory.features.at[row].set(feature)
    new = memory.replace(
        run=memory.run.at[row].set(run),
        epoch=memory.epoch.at[row].set(epoch),
        count=memory.count + 1,
        features=features,
        factor=factor,
        target=memory.target.at[row].set(error / pivot),
        cross=memory.cross.at[row].set(cross / pivot),
    )
    memory = jax.tree.map(lambda a, b: jnp.where(fits, a, b), new, memory)
    ahead = _reference_at(data, table, run[None], epoch[None] + 1)
    used = jnp.arange(len(memory.run)) < memory.count
    column = jnp.where(used, kernel(memory.features, ahead)[:, 0], 0.0)
    column = jax.scipy.linalg.solve_triangular(memory.factor, column, lower=True)
    return memory.replace(
        candidates=memory.candidates.at[run].set(ahead[0]),
        cross=memory.cross.at[:, run].set(column),
    )


def reference_policy(key, data, table: Table, state: LoopState) -> jax.Array:
    """Quick-Tune's acquisition: improvement at equal fidelity per second."""
    noise = jax.random.uniform(key, state.epochs.shape)
    gp = ref.gp_parameters(data["weights"])
    memory = state.memory
    mean = gp["constant_mean"] + memory.target @ memory.cross
    var = gp["outputscale"] - jnp.sum(memory.cross**2, 0) + gp["noise"]
    num_epochs = table.curves.shape[1]
    seen = jnp.arange(num_epochs) < state.epochs[:, None]
    at_epoch = jnp.where(seen, table.curves, -1.0).max(0)
    below = jax.lax.cummax(at_epoch)
    incumbent = jnp.where(at_epoch >= 0, at_epoch, below)
    best = incumbent[jnp.minimum(state.epochs, num_epochs - 1)]
    std = jnp.sqrt(jnp.maximum(var, 1e-9))
    score = expected_improvement(mean, std, best) / data["seconds"]
    return jnp.where(state.num_steps == 0, noise, score)


def _reference_refit(data, table: Table, memory: ReferenceMemory, num_rows, num_steps):
    """Full-batch Adam on the marginal likelihood, from the given weights.

    Only the first ``num_rows`` rows are looked at; the padding after them would change
    nothing and cost the cube of its size.
    """
    optimizer = optax.adam(data["learning_rate"])
    run, epoch = memory.run[:num_rows], memory.epoch[:num_rows]
    mask = (jnp.arange(num_rows) < memory.count).astype(jnp.float32)
    truth = table.curves[run, epoch - 1]

    def step(_, carry):
        weights, state = carry

        def loss_fn(weights):
            features = _reference_at({**data, "weights": weights}, table, run, epoch)
            return ref.reference_nll(features, truth, mask, ref.gp_parameters(weights))

        grads = jax.grad(loss_fn)(weights)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(weights, updates), state

    weights = data["weights"]
    start = (weights, optimizer.init(weights))
    return jax.lax.fori_loop(0, num_steps, step, start)[0]


def replay_reference(
    key: jax.Array,
    weights: dict,
    inputs: jax.Array,
    meta_features: jax.Array,
    seconds: jax.Array,
    table: Table,
    grid: jax.Array,
    overheads: tuple[float, ...] = (0.0,),
    learning_rate: float = 1e-4,
    rounds: tuple[tuple[int, int], ...] = (
        (10, 1000),
        (20, 50),
        (40, 50),
        (80, 50),
        (160, 50),
        (320, 50),
    ),
    max_history: int = 512,
) -> jax.Array:
    """Replay Quick-Tune as published, with its refits thinned out.

    Published: each of the first ten fits restarts from the meta-trained weights and
    takes 1,000 steps, every later one takes 50. Here the tenth of the former is taken
    (it overwrites the nine before it), and the latter at every doubling.

    Args:
        key: Random key (the first configuration is random).
        weights: Meta-trained, of `finetune.reference.train_reference`.
        inputs: From `finetune.reference.reference_inputs`, ``[R, H]``.
        meta_features: Scaled, ``[4]``.
        seconds: Predicted seconds of an epoch of each run, ``[R]``.
        table: The runs.
        grid: Times in seconds, ``[G]``.
        overheads: Seconds that one decision takes.
        learning_rate: Of the refits.
        rounds: Pairs (observations, steps): when to refit, and how long.
        max_history: Observations beyond this many are not added.

    Returns:
        Normalised regret for each overhead on the grid, ``[K, G]``.
    """
    data = {
        "weights": weights,
        "inputs": inputs,
        "meta": meta_features,
        "seconds": seconds,
        "learning_rate": learning_rate,
    }
    ends = [end for end, _ in rounds] + [1_000_000]
    state = start_state(table, grid, len(overheads))
    num_runs = len(inputs)
    size = 0
    for i, end in enumerate(ends):
        # the memory grows by doubling, so that early rounds stay cheap
        new_size = int(min(max_history, 2 ** np.ceil(np.log2(max(end, 16)))))
        memory = ReferenceMemory(
            run=jnp.zeros(new_size, jnp.int32),
            epoch=jnp.ones(new_size, jnp.int32),
            count=jnp.asarray(0),
            features=jnp.zeros((new_size, 32)),
            factor=jnp.eye(new_size),
            target=jnp.zeros(new_size),
            candidates=jnp.zeros((num_runs, 32)),
            cross=jnp.zeros((new_size, num_runs)),
        )
        if size:
            old = state.memory
            memory = memory.replace(
                run=memory.run.at[:size].set(old.run),
                epoch=memory.epoch.at[:size].set(old.epoch),
                count=jnp.minimum(old.count, size),
            )
            num_rows, num_steps = rounds[i - 1]
            refitted = jax.lax.cond(
                state.clock < grid[-1],  # else nothing is chosen any more
                lambda memory, n=num_rows, k=num_steps, d=data: _reference_refit(
                    d, table, memory, min(n, max_history), k
                ),
                lambda _, d=data: d["weights"],
                memory,
            )
            data = {**data, "weights": refitted}
        size = new_size
        memory = _rebuild(data, table, memory, state.epochs)
        state = run_loop(
            reference_policy,
            key,
            data,
            table,
            state.replace(memory=memory),
            grid,
            overheads,
            end,
            remember=_append,
        )
    return regret(table, state.trace)

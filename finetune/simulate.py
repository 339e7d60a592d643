"""Grey-box optimisation replayed on a table of finished runs, as one jitted loop.

A policy says at each step which run to train for one more epoch; the clock advances by
the seconds of that epoch (plus, where asked for, the seconds that the decision itself
took), and the best accuracy so far is recorded on a grid of times. The loop is a
``lax.while_loop`` and is vmapped over seeds and mapped over datasets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from finetune.meta_dataset import MetaDataset
from finetune.training import pad_runs


class Table(struct.PyTreeNode):
    """All runs of one dataset; ``R`` runs (padded), ``T`` epochs.

    Attributes:
        curves: Accuracies, the last value repeated after the end, ``[R, T]``.
        costs: Seconds of each epoch, ``[R, T]``.
        lengths: Epochs of each run, 0 for padding, ``[R]``.
        best: Highest accuracy in the table.
        worst: Lowest accuracy in the table.
    """

    curves: jax.Array
    costs: jax.Array
    lengths: jax.Array
    best: jax.Array
    worst: jax.Array


class LoopState(struct.PyTreeNode):
    """What a policy may look at.

    Attributes:
        epochs: Epochs trained of each run, ``[R]``.
        last: Last accuracy of each run, 0 before the first epoch, ``[R]``.
        peak: Best accuracy of each run, ``[R]``.
        current: Run trained last, -1 at first.
        num_steps: Epochs trained in total.
        clock: Seconds spent.
        best: Best accuracy so far, 0 at first.
        trace: Best accuracy so far at each time of the grid, for each of the given
            overheads, ``[K, G]``.
        memory: What a policy keeps from step to step.
    """

    epochs: jax.Array
    last: jax.Array
    peak: jax.Array
    current: jax.Array
    num_steps: jax.Array
    clock: jax.Array
    best: jax.Array
    trace: jax.Array
    memory: Any = None


# (key, policy's own data, table, state) -> score of each run [R]; the highest open wins
Policy = Callable[[jax.Array, Any, Table, LoopState], jax.Array]


def make_tables(data: MetaDataset) -> Table:
    """Lay out one table per dataset, a leading axis ``D`` on every leaf."""
    padded, _ = pad_runs(data)
    real = np.arange(data.num_epochs) < padded["lengths"][..., None]
    return Table(
        curves=jnp.asarray(padded["curves"]),
        costs=jnp.asarray(padded["costs"]),
        lengths=jnp.asarray(padded["lengths"]),
        best=jnp.asarray(np.where(real, padded["curves"], -1).max((1, 2))),
        worst=jnp.asarray(np.where(real, padded["curves"], 2).min((1, 2))),
    )


def start_state(table: Table, grid: jax.Array, num_overheads: int = 1) -> LoopState:
    """Return the state before the first epoch."""
    num_runs = table.lengths.shape[0]
    return LoopState(
        epochs=jnp.zeros(num_runs, jnp.int32),
        last=jnp.zeros(num_runs),
        peak=jnp.zeros(num_runs),
        current=jnp.asarray(-1),
        num_steps=jnp.asarray(0),
        clock=jnp.asarray(0.0),
        best=jnp.asarray(0.0),
        trace=jnp.zeros((num_overheads, *grid.shape)),
    )


def run_loop(
    policy: Policy,
    key: jax.Array,
    policy_data: Any,
    table: Table,
    state: LoopState,
    grid: jax.Array,
    overheads: tuple[float, ...] = (0.0,),
    max_steps: jax.Array | int = 1_000_000,
    remember: Callable[[Any, Table, LoopState], Any] | None = None,
) -> LoopState:
    """Run a policy until the last time of the grid, or until nothing is left.

    Args:
        policy: Scores the runs.
        key: Random key.
        policy_data: Handed to the policy.
        table: One dataset.
        state: Where to go on from.
        grid: Increasing times in seconds, ``[G]``.
        overheads: Seconds that one decision takes; no policy looks at the clock, so
            several answers are traced in one replay.
        max_steps: Stop after this many epochs in total.
        remember: Makes the policy's memory after a step; None keeps it as it is.
    """

    def is_running(state):
        open_runs = (state.epochs < table.lengths).any()
        return (state.clock < grid[-1]) & open_runs & (state.num_steps < max_steps)

    def step(state):
        step_key = jax.random.fold_in(key, state.num_steps)
        score = policy(step_key, policy_data, table, state)
        is_open = state.epochs < table.lengths
        run = jnp.argmax(jnp.where(is_open, score, -jnp.inf))
        epoch = state.epochs[run]
        value = table.curves[run, epoch]
        clock = state.clock + table.costs[run, epoch]
        spent = clock + jnp.asarray(overheads)[:, None] * (state.num_steps + 1)
        best = jnp.maximum(state.best, value)
        state = state.replace(
            epochs=state.epochs.at[run].add(1),
            last=state.last.at[run].set(value),
            peak=state.peak.at[run].max(value),
            current=run,
            num_steps=state.num_steps + 1,
            clock=clock,
            best=best,
            trace=jnp.where(grid >= spent, best, state.trace),
        )
        if remember is not None:
            state = state.replace(memory=remember(policy_data, table, state))
        return state

    return jax.lax.while_loop(is_running, step, state)


def regret(table: Table, trace: jax.Array) -> jax.Array:
    """Normalise: 0 at the best accuracy in the table, 1 at the worst."""
    return (table.best - trace) / jnp.maximum(table.best - table.worst, 1e-6)


def simulate(
    policy: Policy,
    keys: jax.Array,
    policy_data: Any,
    tables: Table,
    grid: jax.Array,
) -> jax.Array:
    """Replay a policy on every dataset with every seed, vmapped over seeds.

    Args:
        policy: Scores the runs.
        keys: Random keys, ``[D, S]``.
        policy_data: Leading axis ``D``.
        tables: Leading axis ``D``.
        grid: Times in seconds, ``[G]``.

    Returns:
        Normalised regret, ``[D, S, G]``.
    """

    def one(key, policy_data, table):
        state = start_state(table, grid)
        state = run_loop(policy, key, policy_data, table, state, grid)
        return regret(table, state.trace[0])

    over_seeds = jax.vmap(one, in_axes=(0, None, None))
    return jax.jit(lambda *x: jax.lax.map(lambda y: over_seeds(*y), x))(
        keys, policy_data, tables
    )

"""Policies without a surrogate, for comparison."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from finetune.simulate import LoopState, Table

_HALVING_RUNGS = (1, 3, 9, 27)


def random_search(key, data, table: Table, state: LoopState) -> jax.Array:
    """Train random configurations to their end, one after the other."""
    del data, table
    noise = jax.random.uniform(key, state.epochs.shape)
    return noise + 2.0 * (jnp.arange(len(noise)) == state.current)


def greedy_freeze_thaw(key, data, table: Table, state: LoopState) -> jax.Array:
    """Start ten runs; then one new run in 30 % of the steps, else the best one."""
    del data
    choice_key, noise_key = jax.random.split(key)
    noise = jax.random.uniform(noise_key, state.epochs.shape)
    fresh = state.epochs == 0
    num_started = jnp.sum(~fresh)
    unfinished = (~fresh) & (state.epochs < table.lengths)
    explore = (num_started < 10) | (jax.random.uniform(choice_key) < 0.3)
    explore = explore | ~unfinished.any()
    best = jnp.where(fresh, -1.0, state.last)
    return jnp.where(explore, jnp.where(fresh, 2 + noise, best), best + 1e-3 * noise)


def successive_halving(key, data, table: Table, state: LoopState) -> jax.Array:
    """Promote asynchronously the best third of each rung (1, 3, 9, 27 epochs).

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (2020),
    Algorithm 2 (ASHA), with one worker.
    """
    del data
    noise = jax.random.uniform(key, state.epochs.shape)
    unfinished = (state.epochs > 0) & (state.epochs < table.lengths)
    best_so_far = jax.lax.cummax(table.curves, axis=1)  # read below epochs only
    score = jnp.where(state.epochs == 0, noise, -1.0)  # otherwise start a new run
    for level, rung in enumerate(_HALVING_RUNGS):
        at_rung = state.epochs >= rung
        value = jnp.where(at_rung, best_so_far[:, rung - 1], -1.0)
        num_promotable = at_rung.sum() // 3
        order = jnp.argsort(jnp.argsort(-value))
        waiting = at_rung & (state.epochs == rung) & unfinished
        promotable = waiting & (order < num_promotable)
        score = jnp.where(promotable, 2.0 + level + value, score)
    between = unfinished & ~jnp.isin(state.epochs, jnp.asarray(_HALVING_RUNGS))
    return jnp.where(between, 10.0, score)


def fixed_order(key, data, table: Table, state: LoopState) -> jax.Array:
    """Train to the end, in the order of decreasing scores ``data`` ``[R]``."""
    del key, table
    return data + 1e6 * (jnp.arange(len(data)) == state.current)

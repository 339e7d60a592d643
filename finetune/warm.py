"""Choices by meta-learned surrogates, conditioned on what the task shows."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from finetune import gp
from finetune.bundle import Surrogates
from finetune.encoding import Encoder, history_features
from finetune.policy import (
    Acquisition,
    acquire,
    condition_seconds,
    horizon_targets,
)
from finetune.refit import History, RefitConfig, history_evidence, refit
from finetune.surrogate import Surrogate, apply_member
from finetune.task_runs import TaskRuns

_refit = jax.jit(refit, static_argnames="config")


class _State(NamedTuple):
    """Observations, padded to a power of two: curves, epochs, seconds per epoch."""

    curves: np.ndarray
    epochs: np.ndarray
    seconds: np.ndarray


@jax.jit
def _score(
    performance: Surrogate,
    cost: Surrogate,
    vectors: jax.Array,
    meta_features: jax.Array,
    state: _State,
    rows: History,
    own_history: jax.Array,
    best: jax.Array,
) -> Acquisition:
    """Score candidates ``[R]``; seconds are NaN where one was never trained."""
    inputs = performance.encoder(vectors, meta_features)
    num_epochs = performance.num_epochs
    features = jax.vmap(history_features)(jnp.asarray(state.curves))
    start = jnp.minimum(state.epochs, num_epochs - 1)
    history = features[jnp.arange(len(start)), start]
    target = horizon_targets(start, num_epochs)

    def member(weights, meta_evidence):
        evidence = history_evidence(performance, weights, rows)
        evidence = jax.tree.map(
            lambda own, meta: jnp.where(own_history, own, meta), evidence, meta_evidence
        )
        ard = jnp.exp(weights["log_ard"])

        def at(o):
            prior = apply_member(
                performance, weights, inputs, history, start, target[:, o]
            )
            shift, var = gp.predict(evidence, ard, prior.features)
            return prior.mean + shift, prior.noise + var

        found = [at(o) for o in range(target.shape[1])]
        return jax.tree.map(lambda *x: jnp.stack(x, 1), *found)

    mean, var = jax.vmap(member)(performance.weights, performance.evidence)
    cost_inputs = cost.encoder(vectors, meta_features)
    zero = jnp.zeros_like(start)
    prior = jax.vmap(
        lambda weights: apply_member(
            cost, weights, cost_inputs, history, zero, zero + 1
        )
    )(cost.weights)
    known = ~jnp.isnan(state.seconds)
    seconds = condition_seconds(
        prior,
        jnp.exp(cost.weights["log_ard"]),
        jnp.where(known, state.seconds, 1.0),
        known.astype(mean.dtype),
    )
    return acquire(mean, var, best, seconds, start, target)


@jax.jit
def _examples(
    encoder: Encoder,
    vectors: jax.Array,
    meta_features: jax.Array,
    curves: jax.Array,
    length: jax.Array,
    mask: jax.Array,
) -> History:
    """Two examples per run: all of it from nothing, and its last step."""
    features = jax.vmap(history_features)(curves)
    last = jnp.arange(len(length)), length - 1
    whole = History(
        inputs=encoder(vectors, meta_features),
        history=features[:, 0],
        start=jnp.zeros_like(length),
        target=length,
        truth=curves[last],
        mask=mask,
    )
    step = whole.replace(
        history=features[last], start=length - 1, mask=mask * (length > 1)
    )
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), whole, step)


class WarmPolicy:
    """Chooses by surrogates that know the search space.

    Args:
        surrogates: What was meta-learned.
        refit: One of ``finetune.tuner.REFIT``.
    """

    def __init__(self, surrogates: Surrogates, refit: str):
        self.surrogates = surrogates
        self.refit = refit
        self.reset()

    def reset(self) -> None:
        """Forget the task."""
        self._fitted = self.surrogates.learned.performance
        self._next_refit = 8

    def choose(self, runs: TaskRuns, meta_features: np.ndarray | None) -> int | None:
        """The candidate to train for one more epoch; None: none is open."""
        is_open = runs.is_open
        if not is_open.any():
            return None
        score = self.acquire(runs, meta_features).score
        return int(np.argmax(np.where(is_open, score, -np.inf)))

    def reason(self, run: int) -> str:
        """Why a run was chosen."""
        del run
        return "gains most per second, by the surrogates"

    def observe(self, run: int, seconds: float) -> None:
        """Nothing is remembered between choices but refitted weights."""

    def largest_gain(self, runs: TaskRuns, meta_features) -> float:
        """The largest expected improvement among open candidates."""
        gain = self.acquire(runs, meta_features).gain
        return float(gain[runs.is_open].max())

    def predict(self, runs: TaskRuns, meta_features, run: int):
        """Epochs, mean and standard deviation of a candidate, ``[4]`` each."""
        found = self.acquire(runs, meta_features)
        start = min(int(runs.lengths[run]), runs.num_epochs - 1)
        target = np.asarray(horizon_targets(jnp.asarray(start), runs.num_epochs))
        return target, np.asarray(found.mean[run]), np.asarray(found.std[run])

    def recommend(self, runs: TaskRuns, meta_features) -> np.ndarray:
        """Order of the candidates before any observation, best first."""
        score = self.surrogates.learned.zero_shot.score(
            jnp.asarray(runs.vectors), jnp.asarray(meta_features)
        )
        return np.argsort(-np.asarray(score))

    def acquire(self, runs: TaskRuns, meta_features) -> Acquisition:
        """Score all candidates, ``[C]``.

        An epoch that is being trained counts as observed, with the accuracy that is
        predicted for it: so several workers do not all choose the same.
        """
        state = self._state(runs)
        best = runs.best()
        best = 0.0 if best is None else best[1]
        found = self._acquire(runs, meta_features, state, best)
        if runs.pending:
            pending = list(runs.pending)
            at = state.epochs[pending]
            state.curves[pending, at] = np.clip(found.mean[pending, 0], 0, 1)
            state.epochs[pending] += 1
            found = self._acquire(runs, meta_features, state, best)
        return found

    def _state(self, runs: TaskRuns) -> _State:
        size = 1 << max(len(runs) - 1, 0).bit_length()
        state = _State(
            np.zeros((size, runs.num_epochs), np.float32),
            np.zeros(size, np.int32),
            np.full(size, np.nan, np.float32),
        )
        seen = np.arange(runs.num_epochs) < runs.lengths[:, None]
        state.curves[: len(runs)] = np.where(seen, runs.scores, 0.0)
        state.epochs[: len(runs)] = runs.lengths
        state.seconds[: len(runs)] = runs.mean_seconds
        return state

    def _acquire(self, runs, meta_features, state: _State, best) -> Acquisition:
        vectors = np.zeros((len(state.epochs), runs.space.num_columns), np.float32)
        vectors[: len(runs)] = runs.vectors
        rows = self._history(vectors, state, meta_features)
        found = _score(
            self._performance(runs, rows),
            self.surrogates.learned.cost,
            vectors,
            meta_features,
            state,
            rows,
            self.refit != "no_refit_meta",
            best,
        )
        return jax.tree.map(lambda x: np.asarray(x)[: len(runs)], found)

    def _history(self, vectors, state: _State, meta_features) -> History:
        """Two examples per started run, padded to a power of two."""
        started = np.flatnonzero(state.epochs)
        size = max(16, 1 << max(len(started) - 1, 0).bit_length())
        index = np.zeros(size, int)
        index[: len(started)] = started
        real = (np.arange(size) < len(started)).astype(np.float32)
        return _examples(
            self.surrogates.learned.performance.encoder,
            np.where(real[:, None] > 0, vectors[index], 0),
            meta_features,
            state.curves[index],
            np.maximum(state.epochs[index], 1),
            real,
        )

    def _performance(self, runs: TaskRuns, rows: History) -> Surrogate:
        """Refit when the number of observations has doubled, where asked for."""
        num = int(runs.lengths.sum())
        if self.refit == "refit" and num >= self._next_refit:
            start = self.surrogates.learned.performance
            self._fitted = _refit(start, rows, config=RefitConfig())
            while self._next_refit <= num:
                self._next_refit *= 2
        return self._fitted

"""The grey-box policy: expected improvement per predicted second.

For each open run and each of a few horizons (the next epoch, some epochs ahead, the
end of its budget) the surrogate predicts the accuracy that would be reached; the score
is the largest expected improvement over the best accuracy so far, divided by the
predicted seconds until there. Looking further than one epoch replaces Quick-Tune's
incumbent at equal fidelity, which only knows the next epoch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from finetune import gp
from finetune.encoding import history_features
from finetune.simulate import LoopState, Table
from finetune.surrogate import Prior, Surrogate, apply_member


def expected_improvement(mean, std, best):
    """Return E[max(value - best, 0)] of a Gaussian, elementwise."""
    std = jnp.maximum(std, 1e-9)
    z = (mean - best) / std
    pdf = jax.scipy.stats.norm.pdf(z)
    return std * (pdf + z * jax.scipy.stats.norm.cdf(z))


def horizon_targets(start: jax.Array, num_epochs: int) -> jax.Array:
    """Return the epochs looked at from ``start``, ``[..., 4]``."""
    ahead = jnp.stack(
        [start + 1, start + 3, start + 10, jnp.full_like(start, num_epochs)], -1
    )
    return jnp.minimum(ahead, num_epochs)


class Acquisition(NamedTuple):
    """What a choice is made by, of ``R`` runs at ``O`` horizons.

    Attributes:
        score: Largest expected improvement per second, ``[R]``.
        gain: Largest expected improvement, ``[R]``.
        mean: Predicted accuracy, ``[R, O]``.
        std: Its standard deviation, ``[R, O]``.
    """

    score: jax.Array
    gain: jax.Array
    mean: jax.Array
    std: jax.Array


def acquire(mean, var, best, seconds, start, target) -> Acquisition:
    """Score runs by the expected improvement per predicted second.

    Args:
        mean: Prediction of each member of the ensemble, ``[E, R, O]``.
        var: Its variance, ``[E, R, O]``.
        best: Best accuracy so far.
        seconds: Of an epoch, ``[R]``.
        start: Known epochs, ``[R]``.
        target: Horizons, ``[R, O]``.
    """
    std = jnp.sqrt(var.mean(0) + mean.var(0))
    gain = expected_improvement(mean.mean(0), std, best)
    score = gain / (seconds[:, None] * (target - start[:, None]))
    return Acquisition(score.max(1), gain.max(1), mean.mean(0), std)


def condition_seconds(prior: Prior, ard, own: jax.Array, started) -> jax.Array:
    """Predict the seconds of an epoch of each run, ``[R]``.

    A started run keeps the mean of its own epochs; the others are predicted given the
    started ones.

    Args:
        prior: Of the cost surrogate's members, leaves ``[E, R, ..]``.
        ard: ``[E, F]``.
        own: Mean seconds of the run's own epochs; anything where none, ``[R]``.
        started: 1 where there are some, ``[R]``.
    """
    log_own = jnp.log(jnp.maximum(own, 1e-3))

    def member(prior, ard):
        evidence = gp.gather_evidence(
            prior.features, log_own - prior.mean, prior.noise, started
        )
        return prior.mean + gp.predict(evidence, ard, prior.features)[0]

    log_mean = jax.vmap(member)(prior, ard).mean(0)
    return jnp.where(started > 0, own, jnp.exp(log_mean))


class Lookup(struct.PyTreeNode):
    """Predictions of an ensemble for everything that can occur on a table.

    Legend: ``E`` members, ``R`` runs, ``T`` epochs, ``O`` horizons, ``F`` features.

    Attributes:
        ahead: From each start to each horizon, leaves ``[E, R, T, O, ..]``.
        fresh: From no history to each epoch, leaves ``[E, R, T, ..]``.
        ard: ``[E, F]``.
        evidence: Given before the task starts, ``[E, ..]``.
        cost: Prior of the cost surrogate, leaves ``[E, R, ..]``.
        cost_ard: ``[E, F]``.
        own_history: 1 to condition on the task's own history, else 0.
    """

    ahead: Prior
    fresh: Prior
    ard: jax.Array
    evidence: gp.Evidence
    cost: Prior
    cost_ard: jax.Array
    own_history: jax.Array


def make_lookup(
    performance: Surrogate,
    cost: Surrogate,
    vectors: jax.Array,
    meta_features: jax.Array,
    table: Table,
    own_history: bool,
) -> Lookup:
    """Predict everything that the policy can ask for on one table.

    Args:
        performance: Performance surrogate.
        cost: Cost surrogate.
        vectors: Configurations ``[R, H]``.
        meta_features: Of the dataset, ``[M]``.
        table: The runs.
        own_history: Condition on the task's own history (N2), else on meta-training
            examples (N1).
    """
    num_runs, num_epochs = table.curves.shape
    inputs = performance.encoder(vectors, meta_features)
    history = jax.vmap(history_features)(table.curves)
    start = jnp.arange(num_epochs)
    target = horizon_targets(start, num_epochs)
    num_horizons = target.shape[-1]

    def ahead(weights):
        def at(o):
            return apply_member(
                performance,
                weights,
                jnp.broadcast_to(
                    inputs[:, None], (num_runs, num_epochs, inputs.shape[-1])
                ),
                history,
                jnp.broadcast_to(start, (num_runs, num_epochs)),
                jnp.broadcast_to(target[:, o], (num_runs, num_epochs)),
            )

        return jax.tree.map(
            lambda *x: jnp.stack(x, 2), *[at(o) for o in range(num_horizons)]
        )

    def fresh(weights):
        shape = (num_runs, num_epochs)
        return apply_member(
            performance,
            weights,
            jnp.broadcast_to(inputs[:, None], (*shape, inputs.shape[-1])),
            jnp.broadcast_to(history[:, :1], history.shape),
            jnp.zeros(shape, jnp.int32),
            jnp.broadcast_to(jnp.arange(1, num_epochs + 1), shape),
        )

    def cost_prior(weights):
        zero = jnp.zeros(num_runs, jnp.int32)
        encoded = cost.encoder(vectors, meta_features)
        return apply_member(cost, weights, encoded, history[:, 0], zero, zero + 1)

    if performance.evidence is None:
        raise ValueError("performance: not meta-trained, it has no evidence")
    evidence = performance.evidence
    if own_history:
        evidence = jax.tree.map(jnp.zeros_like, evidence)
    return Lookup(
        ahead=jax.vmap(ahead)(performance.weights),
        fresh=jax.vmap(fresh)(performance.weights),
        ard=jnp.exp(performance.weights["log_ard"]),
        evidence=evidence,
        cost=jax.vmap(cost_prior)(cost.weights),
        cost_ard=jnp.exp(cost.weights["log_ard"]),
        own_history=jnp.asarray(float(own_history)),
    )


def _at(tree: Any, *index) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def surrogate_policy(
    key: jax.Array, lookup: Lookup, table: Table, state: LoopState
) -> jax.Array:
    """Score runs by expected improvement per predicted second."""
    del key
    num_runs, num_epochs = table.curves.shape
    rows = jnp.arange(num_runs)
    started = state.epochs > 0
    start = jnp.minimum(state.epochs, num_epochs - 1)
    previous = jnp.maximum(state.epochs - 1, 0)

    def member(ahead, fresh, ard, evidence):
        # two examples per started run: what it reached, as predicted before its first
        # epoch and before its last one
        whole = _at(fresh, rows, previous)
        step = _at(ahead, rows, previous, 0)
        known = started * lookup.own_history
        evidence = evidence + gp.gather_evidence(
            whole.features, state.last - whole.mean, whole.noise, known
        )
        evidence = evidence + gp.gather_evidence(
            step.features, state.last - step.mean, step.noise, known * (previous > 0)
        )
        prior = _at(ahead, rows, start)
        flat = prior.features.reshape(-1, prior.features.shape[-1])
        shift, var = gp.predict(evidence, ard, flat)
        shape = prior.mean.shape
        return prior.mean + shift.reshape(shape), prior.noise + var.reshape(shape)

    mean, var = jax.vmap(member)(
        lookup.ahead, lookup.fresh, lookup.ard, lookup.evidence
    )
    seconds = predict_seconds(lookup, table, state)
    target = horizon_targets(start, num_epochs)
    return acquire(mean, var, state.best, seconds, start, target).score


def predict_seconds(lookup: Lookup, table: Table, state: LoopState) -> jax.Array:
    """Predict the seconds of an epoch of each run of a table, ``[R]``."""
    num_epochs = table.curves.shape[1]
    done = jnp.arange(num_epochs) < state.epochs[:, None]
    own = jnp.sum(table.costs * done, 1) / jnp.maximum(state.epochs, 1)
    started = (state.epochs > 0).astype(own.dtype)
    return condition_seconds(lookup.cost, lookup.cost_ard, own, started)

"""What a task pays where an episode ends, beside what its steps pay.

A goal that pays ten and ends the episode is one row in a hundred, and so is a crash.
A regression spreads such a reward over the steps before it, where an agent can stay and
be paid for ever. So it is taken apart: models predict what the step itself pays, as the
rows that go on tell it, and what is left of an end is added where an episode ends. Ends
that pay differently, such as a catch and an escape, are told apart, so that each kind
has a region of its own.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.context import Context
from oswm.linalg import matmul
from oswm.termination import NUM_KINDS, Termination

# An end pays something of its own if its reward is off by this many times what 98 of
# 100 steps are that go on, and ends are so ten times as often as steps.
_QUANTILE = 0.98
_FAR_OFF = 3.0
_MORE_OFTEN = 10.0
_NEGLIGIBLE = 1e-2  # Of the largest reward.
_RIDGE = 1e-6  # Penalty of what steps pay, per row.
_GAP = 0.5  # Between two kinds, of the range of what ends pay.
_PENALTIES = (1e-3, 1e-1, 1e1)  # Of what an end pays as a function of where it is.
_FEWEST = 5  # Ends that say how it depends on that.


@struct.dataclass
class Ends:
    """What ends of two kinds pay.

    Attributes:
        regions: Where each kind is told from steps that go on, on a leading axis [2].
        which: Tells ends of the second kind, which pay more, from those of the first.
        weights: Of 1, next observation and action, float32 [2, 1 + S + A].
        low: The least that an end of a kind paid, float32 [2].
        high: The most, float32 [2].
    """

    regions: Termination
    which: Termination
    weights: jax.Array
    low: jax.Array
    high: jax.Array

    @classmethod
    def fit(cls, context: Context, regions: Termination, which: Termination) -> Ends:
        """From a context that `take_apart` has changed.

        Args:
            context: The rows.
            regions: Fitted to it.
            which: Fitted to `of_ends_alone(context)`.
        """
        inputs = np.concatenate([context.next_obs, context.action], axis=1)
        is_end = np.asarray(context.terminated * context.mask) > 0
        pay, kind = np.asarray(context.end_pay), np.asarray(context.end_kind)
        found = [
            _pay_of(inputs[is_end & (kind == k)], pay[is_end & (kind == k)])
            for k in range(NUM_KINDS)
        ]
        weights, low, high = zip(*found, strict=True)
        weights, low, high = (jnp.asarray(x) for x in (weights, low, high))
        return cls(regions, which, weights, low, high)

    def pay(self, next_obs: jax.Array, action: jax.Array) -> jax.Array:
        """What an end pays beside the step, from vectors [S] and [A].

        In the mean over both kinds; that of the better kind is as likely as the more
        doubtful of two rules says, as agents go where one of them pays too much.
        """
        inputs = jnp.concatenate([jnp.ones(1), next_obs, action])
        pay = jnp.clip(matmul(self.weights, inputs), self.low, self.high)
        # Each region is told from steps alone: both may hold a place.
        regions = jax.nn.sigmoid(self.regions.logits(next_obs, action))
        better = jnp.minimum(
            regions[1] / jnp.maximum(jnp.max(regions), 1e-6),
            self.which.chance(self.which.probability(next_obs, action)),
        )
        return better * pay[1] + (1 - better) * pay[0]


def of_ends_alone(context: Context) -> Context:
    """The ends of a context that `take_apart` has changed, the second kind marked."""
    return dataclasses.replace(
        context,
        mask=context.mask * context.terminated,
        terminated=jnp.asarray(context.end_kind),
        end_pay=None,
        end_kind=None,
    )


def take_apart(context: Context) -> Context:
    """A context whose rewards are those of steps, without what ends pay.

    Args:
        context: As it was logged; one whose ends pay nothing of their own comes back
            as it is.
    """
    is_end = (np.asarray(context.terminated) > 0) & (np.asarray(context.mask) > 0)
    found = _what_ends_pay(context, is_end)
    if found is None:
        return context
    reward, pay, kind = np.array(context.reward), *np.zeros((2, len(is_end)))
    reward[is_end], pay[is_end], kind[is_end] = found
    return dataclasses.replace(
        context,
        reward=jnp.asarray(reward),
        end_pay=jnp.asarray(pay, jnp.float32),
        end_kind=jnp.asarray(kind, jnp.float32),
    )


class _Found(NamedTuple):
    """Of the rows that end an episode: what the step pays, what the end, its kind."""

    step: np.ndarray
    end: np.ndarray
    kind: np.ndarray


def _what_ends_pay(context: Context, is_end: np.ndarray) -> _Found | None:
    """None if it is nothing of its own."""
    goes_on = ~is_end & (np.asarray(context.mask) > 0)
    if not is_end.any() or not goes_on.any():
        return None
    reward = np.asarray(context.reward, np.float64)
    inputs = _inputs(context, goes_on)
    step, usual = _what_steps_pay(inputs[goes_on], reward[goes_on], inputs[is_end])
    end = reward[is_end] - step
    far = _FAR_OFF * np.quantile(usual, _QUANTILE) + _NEGLIGIBLE * np.abs(reward).max()
    often = np.mean(np.abs(end) > far)
    if not often > _MORE_OFTEN * np.mean(usual > far):
        return None
    pays = np.sort(end)
    gaps = np.diff(pays)
    place = int(gaps.argmax()) if len(gaps) else 0
    is_one_kind = not len(gaps) or gaps[place] < max(_GAP * np.ptp(pays), far)
    middle = np.inf if is_one_kind else pays[place : place + 2].mean()
    return _Found(step, end, (end > middle).astype(float))


def _inputs(context: Context, goes_on: np.ndarray) -> np.ndarray:
    """What a step's reward is a linear function of, standardised, [N, 1 + P]."""
    rows = np.concatenate([context.obs, context.action, context.next_obs], axis=1)
    rows = _standardised(rows.astype(np.float64), goes_on)
    rows = np.concatenate([rows, _standardised(np.square(rows), goes_on)], axis=1)
    return np.insert(rows, 0, 1.0, axis=1)


def _standardised(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    mean, std = values[rows].mean(axis=0), values[rows].std(axis=0)
    return (values - mean) / np.where(std > 1e-6, std, np.inf)


def _what_steps_pay(
    inputs: np.ndarray, reward: np.ndarray, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rewards in other rows, and how far off rows are that were left out."""
    inverse = np.linalg.inv(
        inputs.T @ inputs + _RIDGE * len(inputs) * np.eye(inputs.shape[1])
    )
    weights = inverse @ (inputs.T @ reward)
    leverage = np.einsum("ij,jk,ik->i", inputs, inverse, inputs)
    left_out = (reward - inputs @ weights) / np.maximum(1.0 - leverage, 1e-4)
    room = np.ptp(reward)
    found = np.clip(asked @ weights, reward.min() - room, reward.max() + room)
    return found, np.abs(left_out)


def _pay_of(inputs: np.ndarray, pay: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Of one kind: weights of 1 and inputs [E, D], the least and the most paid.

    As much everywhere, unless ends that are left out say that it depends on the inputs.
    """
    weights = np.zeros(1 + inputs.shape[1], np.float32)
    if not len(pay):
        return weights, 0.0, 0.0
    weights[0] = pay.mean()
    bounds = float(pay.min()), float(pay.max())
    if len(pay) < _FEWEST:
        return weights, *bounds
    number, inputs = len(pay), inputs.astype(np.float64)
    mean, std = inputs.mean(axis=0), inputs.std(axis=0)
    std = np.where(std > 1e-6 * (1 + np.abs(mean)), std, np.inf)
    x = np.insert((inputs - mean) / std, 0, 1.0, axis=1)
    least = np.square((pay - pay.mean()) * number / (number - 1)).mean()
    for penalty in _PENALTIES:
        ridge = np.full(x.shape[1], penalty * number)
        ridge[0] = 0.0
        inverse = np.linalg.inv(x.T @ x + np.diag(ridge))
        found = inverse @ (x.T @ pay)
        leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
        error = np.square((pay - x @ found) / np.maximum(1 - leverage, 1e-4)).mean()
        if error < 0.5 * least:
            least = error
            weights[1:] = found[1:] / std
            weights[0] = found[0] - np.sum(found[1:] * mean / std)
    return weights, *bounds

"""Rows of a log that are no steps of the task: resets that stand among them.

Environments that reset by themselves are logged in two ways that look like data. Either
the last row of an episode has the next episode's first observation as `next_obs`, or a
row of its own leads from the one to the other. A model would learn both as dynamics.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from envs.log_estimates import estimated
from envs.log_trace import Trace, size_of
from envs.transitions import Transitions
from jaxrl_runs.warn import warn_user

_NEARLY_ALL = 0.8  # Of the ends of a kind: collectors treat all of them alike.
_NEW = 0.2  # Of moves between numbered states that no ordinary step makes.
_FEWEST = 3  # Ordinary steps that show how far one goes.


def without_resets(rows: Transitions) -> Transitions:
    """The rows that are steps of the task.

    Episodes are told apart by `episode` where rows were left out.

    Args:
        rows: Valid ones.

    Returns:
        The rows themselves if no resets are found among them.

    Warns:
        UserWarning: Rows are left out; says how many, why, and what is lost with them.
    """
    ends = _Ends.of(rows)
    if ends is None:
        return rows
    between = ends.between()
    shifted = np.zeros(len(rows), bool) if between.any() else ends.shifted()
    if not (shifted.any() or between.any()):
        return rows
    guess = None
    if shifted.any():
        if (shifted & np.asarray(rows.terminated)).any():
            obs, action = np.asarray(rows.obs), np.asarray(rows.action)
            guess = estimated(obs, action, np.asarray(rows.next_obs), ~ends.ended)
        _tell_shifted(rows, ends, shifted, guess is not None)
    else:
        warn_user(
            f"transitions: {between.sum()} rows, each after the end of an episode, "
            "lead from its last observation to the first one of the next (next-step "
            "autoreset); they are no steps of the task and are left out",
        )
    return _kept(rows, ends, shifted, between, guess)


@dataclasses.dataclass(frozen=True)
class _Ends:
    """The ends of episodes in a log of N rows.

    Attributes:
        ended: Whether a row is the last one of an episode, bool [N].
        kinds: Ends by termination, and others, bool [N] each; where no flag is set,
            those at which `episode` changes.
        follows: Whether the next row starts from `next_obs`, bool [N].
        moves: How far a step went, in units of the columns' spread, [N].
        pairs: `obs` and `next_obs` of each row, as bytes [N].
        wraps: Whether the last row leads to the first one: `obs` was shifted in a ring.
    """

    ended: np.ndarray
    kinds: tuple[np.ndarray, ...]
    follows: np.ndarray
    moves: np.ndarray
    pairs: np.ndarray
    wraps: bool

    @classmethod
    def of(cls, rows: Transitions) -> _Ends | None:
        """None if no end lies inside the log, or nothing but ends."""
        terminated, truncated = np.asarray(rows.terminated), np.asarray(rows.truncated)
        flagged = terminated | truncated
        changes = np.zeros(len(rows), bool)
        if rows.episode is not None:
            changes[:-1] = np.diff(np.asarray(rows.episode)) != 0
        ended = flagged | changes
        kinds = (terminated, truncated & ~terminated) if flagged.any() else (changes,)
        inside = ended.copy()
        inside[-1] = False
        if not inside.any() or (~ended).sum() < _FEWEST:
            return None
        trace = Trace.of(rows)
        follows = np.append(trace.same_numbers(1), False)
        if not (follows & ended).any():
            return None
        goes_on = flagged & ~changes
        goes_on[-1] = False
        if goes_on.any():  # `episode` counts environments: theirs are no neighbours.
            kinds = tuple(kind & goes_on for kind in kinds)
        else:
            kinds = tuple(kind & inside for kind in kinds)
        both = np.concatenate([trace.obs, trace.next_obs], axis=1)
        both = np.ascontiguousarray(both)
        pairs = both.view(np.dtype((np.void, both.itemsize * both.shape[1]))).ravel()
        return cls(
            ended,
            kinds,
            follows,
            size_of((trace.next_obs - trace.obs) / trace.spread),
            pairs,
            bool((np.abs(trace.next_obs[-1] - trace.obs[0]) <= trace.precision).all()),
        )

    def shifted(self) -> np.ndarray:
        """Ends whose `next_obs` is the next episode's first observation, bool [N]."""
        found = np.zeros(len(self.ended), bool)
        for kind in self.kinds:
            hits = kind & self.follows
            if kind.any() and hits.sum() >= _NEARLY_ALL * kind.sum():
                found |= hits if self._are_jumps(hits) else False
        last = np.arange(len(found)) == len(found) - 1
        if found.any() and self.wraps and (self.ended[-1] or self._are_jumps(last)):
            found[-1] = True
        return found

    def between(self) -> np.ndarray:
        """Rows behind an end that lead to the next episode, bool [N]."""
        hits = self.ended & self.follows
        after = np.roll(hits, 1)
        after[0] = False
        after &= ~self.ended & self.follows
        if after.sum() >= _NEARLY_ALL * hits.sum() and self._are_jumps(after):
            return after
        return np.zeros(len(self.ended), bool)

    def _are_jumps(self, chosen: np.ndarray) -> bool:
        """Whether rows go where no ordinary step goes."""
        after = np.roll(self.ended, 1)
        after[0] = False
        ordinary = ~self.ended & ~after
        if chosen.sum() == 0 or ordinary.sum() < _FEWEST:
            return False
        known, count = np.unique(self.pairs[ordinary], return_counts=True)
        if len(known) < 0.5 * count.sum():  # States by number, one-hot, on a grid.
            unknown = ~np.isin(self.pairs[chosen], known)
            return bool(unknown.mean() >= _NEW)
        few = chosen.sum() < _FEWEST
        usual = np.quantile(self.moves[ordinary], 0.99 if few else 0.9)
        typical = np.median(self.moves[ordinary])
        return bool(np.median(self.moves[chosen]) > max(usual, 2 * typical))


def _kept(
    rows: Transitions,
    ends: _Ends,
    shifted: np.ndarray,
    between: np.ndarray,
    guess: np.ndarray | None,
) -> Transitions:
    number = np.cumsum(np.insert(ends.ended[:-1], 0, False))
    truncated = np.array(rows.truncated)
    before = np.flatnonzero(shifted & truncated & ~np.asarray(rows.terminated)) - 1
    before = before[(before >= 0) & ~ends.ended[before]]
    truncated[before] = True  # The mark of a time limit moves one row up.
    kept = ~(shifted | between)
    fields = {f.name: getattr(rows, f.name) for f in dataclasses.fields(rows)}
    fields |= {"truncated": truncated, "episode": number}
    if guess is not None:
        saved = shifted & np.asarray(rows.terminated)
        kept |= saved
        next_obs = np.array(rows.next_obs)
        next_obs[saved] = guess[saved]
        fields["next_obs"] = next_obs
    return Transitions(**{k: np.asarray(x)[kept] for k, x in fields.items()})


def _tell_shifted(
    rows: Transitions, ends: _Ends, shifted: np.ndarray, is_estimated: bool
) -> None:
    terminated = np.asarray(rows.terminated)
    lost = []
    if (shifted & terminated).any():
        number = (shifted & terminated).sum()
        lost.append(
            f"but for {number} where the task ended the episode: there it is estimated "
            "from the other rows, by least squares"
            if is_estimated
            else f"with them {number} terminations"
        )
    if (shifted & ~terminated & ends.ended).any():
        starts = np.flatnonzero(np.insert(ends.ended[:-1], 0, True))
        lengths = np.diff(np.append(starts, len(ends.ended)))
        last = starts + lengths - 1
        longest = lengths[(shifted & ~terminated & ends.ended)[last]].max()
        lost.append(
            "episodes are one step shorter than they were: give "
            f"max_steps={longest}, the longest truncated one's"
        )
    warn_user(
        f"transitions: next_obs of a last row is already the first observation of the "
        f"next episode, in {shifted.sum()} of {ends.ended.sum()} rows that end one "
        "(collectors that reset by themselves write this). What the action led to is "
        "not known there, and these rows are left out"
        + "".join(f"; {text}" for text in lost)
        + ". Log the final observation instead (Gymnasium's vector environments have "
        "it in infos['final_obs'])",
    )

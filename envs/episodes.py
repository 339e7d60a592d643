"""Where episodes begin and end in a log, and whether its rows are in order at all.

Flags decide. Where rows follow each other without one, numbers do: a row continues the
one before if its observation is the other's next observation, within the precision
that the log itself shows (last bits, rounded decimals).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from envs.log_gaps import tell_gaps
from envs.log_mistakes import tell_mistakes, tell_odd_lengths
from envs.log_padding import without_padding
from envs.log_resets import without_resets
from envs.log_trace import Trace, size_of
from envs.transitions import Transitions
from jaxrl_runs.warn import warn_user

_MOST_ENVIRONMENTS = 256  # In parallel, of which rows take turns.
_ALONE = 1
_MOST_SEARCHED = 20_000  # Rows among which those that continue others are searched for.


class OrderError(ValueError):
    """Rows are not in order of time, so that where episodes start cannot be known."""


class SwappedError(OrderError):
    """Rows are in order once `obs` and `next_obs` change places."""


class LateError(ValueError):
    """`obs` is a row late, so that no row is a step."""


@dataclasses.dataclass(frozen=True)
class LogEpisodes:
    """The episodes of a log, of which the last may be cut.

    Attributes:
        rows: The transitions, ordered: by episode, and by time in each.
        starts: Row of each first step, int [E].
        lengths: Steps of each, int [E].
        terminated: Whether the task ended it, bool [E].
        truncated: Whether a time limit is marked at its end, bool [E].
        is_ordered: False if rows have no order and each is an episode of its own.
    """

    rows: Transitions
    starts: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    is_ordered: bool = True

    @property
    def is_complete(self) -> np.ndarray:
        """Whether the task or the time limit ended it, bool [E]; unknown is False."""
        at_limit = self.lengths == (self.time_limit or 0)
        return (self.terminated | self.truncated | at_limit) & self.is_ordered

    @property
    def returns(self) -> np.ndarray:
        """Sums of rewards, float64 [E], of complete episodes and others."""
        return np.add.reduceat(np.asarray(self.rows.reward, float), self.starts)

    @property
    def time_limit(self) -> int | None:
        """The length of the longest truncated episode, or None if nothing shows it.

        Where no truncation is marked, a greatest length at which several episodes end
        without termination counts as one.
        """
        if not self.is_ordered:
            return None
        if self.truncated.any():
            return int(self.lengths[self.truncated].max())
        cut = self.lengths[:-1][~self.terminated[:-1]]
        if (
            cut.size
            and cut.max() == self.lengths.max()
            and (cut == cut.max()).sum() > 1
        ):
            return int(cut.max())
        return None


def only_steps(transitions: Transitions) -> Transitions:
    """Valid transitions without padding, and without resets that look like steps.

    Warns:
        UserWarning: Rows are left out; says which, and what is lost with them. Or flags
            look inverted.

    Raises:
        ValueError: The transitions are not valid, or `next_obs` is something else.
    """
    rows = without_padding(transitions.validate())
    tell_mistakes(rows)
    return without_resets(rows)


def in_order(transitions: Transitions) -> Transitions:
    """The rows by episode and by time, or as they are if nothing tells their order.

    Warns:
        UserWarning: As `episodes_of`, and where `obs` and `next_obs` look swapped.

    Raises:
        ValueError: The transitions are not valid.
    """
    return known_episodes(transitions).rows


def known_episodes(transitions: Transitions) -> LogEpisodes:
    """The episodes, or each row as one of its own if nothing tells their order.

    Whoever needs episodes asks `episodes_of`, which says why there are none.

    Warns:
        UserWarning: As `in_order`.

    Raises:
        ValueError: The transitions are not valid.
    """
    rows = only_steps(transitions)
    try:
        return _episodes_of(rows)
    except SwappedError as error:
        warn_user(str(error))
    except OrderError:
        pass
    return _each_alone(rows)


def episodes_of(transitions: Transitions) -> LogEpisodes:
    """Find the episodes of transitions.

    Warns:
        UserWarning: Rows are those of several environments in turn, or no row continues
            any other (both is said, and assumed); or they go on after a termination as
            if there was none; or some inside of marked episodes do not lead to the next
            one, and are taken for further ends.

    Raises:
        OrderError: The rows are not in order of time, or `obs` and `next_obs` are
            swapped.
        LateError: `obs` is a row late.
        ValueError: The transitions are not valid.
    """
    return _episodes_of(only_steps(transitions))


def _episodes_of(rows: Transitions) -> LogEpisodes:
    ended = np.asarray(rows.terminated) | np.asarray(rows.truncated)
    breaks = ended[:-1].copy()
    if rows.episode is not None:
        episode = np.asarray(rows.episode)
        breaks |= episode[1:] != episode[:-1]
    if not breaks.all():
        trace = Trace.of(rows)
        follows = trace.follows(1)
        if follows[~breaks].mean() >= 0.5:
            breaks |= _found(rows, trace, breaks, follows)
        elif (num_parallel := _check_order(rows, trace, breaks)) == _ALONE:
            return _each_alone(rows)
        elif num_parallel:
            return episodes_of(
                rows.replace(episode=np.arange(len(rows)) % num_parallel)  # type: ignore
            )
        _check_ends(rows, follows)
    starts = np.flatnonzero(np.insert(breaks, 0, True))
    lengths = np.diff(np.append(starts, len(rows)))
    last = starts + lengths - 1
    flags = np.asarray(rows.terminated)[last], np.asarray(rows.truncated)[last]
    tell_odd_lengths(lengths, *flags)
    return LogEpisodes(rows, starts, lengths, *flags)


def _found(
    rows: Transitions, trace: Trace, breaks: np.ndarray, follows: np.ndarray
) -> np.ndarray:
    """Ends of episodes that only numbers show, bool [N - 1].

    There are none where the log marks time limits and its gaps are short: rows are
    missing then, and the episode goes on.
    """
    gaps = ~breaks & ~follows
    marked = rows.truncated.any() or rows.episode is not None
    if not marked or gaps.sum() <= breaks.sum() or not _is_short(trace, gaps):
        tell_gaps(rows, trace, breaks, gaps)
        return gaps
    warn_user(
        f"transitions: {gaps.sum()} of {(~breaks).sum()} rows that end no episode do "
        "not have the obs of the next row as next_obs, but nearly: rows between them "
        "are taken to be missing, and episodes to go on as the log marks them. The "
        "time limit is longer than the rows show then; give max_steps",
    )
    return np.zeros_like(gaps)


def _is_short(trace: Trace, gaps: np.ndarray) -> bool:
    """Whether observations go on near where the row before them has led to."""
    jumps = size_of((trace.next_obs[:-1] - trace.obs[1:])[gaps] / trace.spread)
    steps = size_of((trace.next_obs - trace.obs) / trace.spread)
    return bool(np.median(jumps) < 3 * np.median(steps))


def _check_order(rows: Transitions, trace: Trace, breaks: np.ndarray) -> int | None:
    """Finds out why rows without a flag between them do not follow each other.

    Returns:
        The number of environments whose rows take turns; `_ALONE` if no row continues
        another; None if flags can be trusted: observations are noisy or were thinned
        out, but in order.
    """
    num_rows = len(rows)
    told = (
        "rows do not follow each other in time. The next_obs of a row should be the "
        f"obs of the next row, and is in {(trace.follows(1) & ~breaks).sum()} of the "
        f"{(~breaks).sum()} rows that end no episode"
    )
    if trace.backwards()[~breaks].mean() >= 0.5:
        raise SwappedError(
            f"transitions: {told}; instead its obs is the next_obs of the next row: "
            "obs and next_obs are swapped, or the rows run backwards in time"
        )
    if rows.episode is None:
        first = trace.first(_MOST_SEARCHED)
        ended = (np.asarray(rows.terminated) | np.asarray(rows.truncated))[
            :_MOST_SEARCHED
        ]
        for distance in range(2, min(_MOST_ENVIRONMENTS, num_rows // 2) + 1):
            goes_on = ~ended[:-distance]
            if goes_on.any() and first.follows(distance)[goes_on].mean() >= 0.5:
                if distance == 2 and _is_late(first, goes_on):
                    raise LateError(
                        f"transitions: {told}; it is that of the row after the next, "
                        "with a step between them: obs is one row late; give obs[1:] "
                        "with all other columns without their last row"
                    )
                warn_user(
                    f"transitions: {told}; it is that of {distance} rows later, so "
                    f"they are taken for {distance} environments in turn. To say so, "
                    "give an episode (or env_id) for each row, or arrays [steps, "
                    "environments, ...]",
                )
                return distance
    if trace.lacks_rows(~breaks):
        raise OrderError(
            f"transitions: {told}; rows are missing between nearly all others. Where "
            "episodes start, where they end and how long they may last cannot be known "
            "then: give all rows, or pass both max_steps and initial_obs"
        )
    if _is_shuffled(trace):
        raise OrderError(
            f"transitions: {told}. Where episodes start and how long they may last "
            "cannot be known then: give rows in order of time with an episode (or "
            "env_id) for each, or pass both max_steps and initial_obs"
        )
    if (rows.terminated | rows.truncated).any() and _is_smooth(trace):
        return None
    warn_user(
        f"transitions: {told}, and no other row goes on from it either. Each row is "
        "taken for an episode of its own, and the time limit is not known: give "
        "max_steps and initial_obs, or rows in order of time",
    )
    return _ALONE


def _is_late(trace: Trace, goes_on: np.ndarray) -> bool:
    """Whether each observation lies halfway to what a row is said to lead to.

    Of two environments in turn, every other row is another's: as far as any, or, where
    both do the same, next to none.
    """
    moves = size_of((trace.obs[1:] - trace.obs[:-1]) / trace.spread)[: len(goes_on)]
    whole = np.median(size_of((trace.next_obs - trace.obs) / trace.spread))
    halves = [np.median(moves[i::2][goes_on[i::2]]) for i in (0, 1)]
    return all(0.25 * whole < half < 0.75 * whole for half in halves)


def _is_shuffled(trace: Trace) -> bool:
    """Whether rows have their continuation elsewhere, number for number."""
    # Imported here: it takes longer than all else in this module.
    from scipy.spatial import KDTree

    sample = np.linspace(0, len(trace.obs) - 2, 200).astype(int)
    known = slice(0, _MOST_SEARCHED)
    nearest = KDTree(trace.obs[known] / trace.spread).query(
        trace.next_obs[sample] / trace.spread
    )[1]
    gaps = np.abs(trace.next_obs[sample] - trace.obs[known][nearest])
    return bool((gaps <= trace.precision).all(axis=1).mean() >= 0.2)


def _is_smooth(trace: Trace) -> bool:
    """Whether a row's observation is at least near the one that comes before it."""
    sample = np.linspace(0, len(trace.obs) - 2, 200).astype(int)
    other = np.random.default_rng(0).permutation(len(trace.obs))[: len(sample)]
    gap = size_of((trace.next_obs[sample] - trace.obs[sample + 1]) / trace.spread)
    far = size_of((trace.next_obs[sample] - trace.obs[other]) / trace.spread)
    return bool(np.median(gap) < 0.5 * np.median(far))


def _each_alone(rows: Transitions) -> LogEpisodes:
    """Rows without order: a truncation tells nothing about the time limit."""
    ones = np.ones(len(rows), int)
    terminated = np.asarray(rows.terminated)
    return LogEpisodes(
        rows, np.arange(len(rows)), ones, terminated, np.zeros(len(rows), bool), False
    )


def _check_ends(rows: Transitions, follows: np.ndarray) -> None:
    """Warns where rows go on after the task is said to have ended an episode."""
    terminated = np.asarray(rows.terminated)[:-1]
    if rows.episode is not None:
        terminated = terminated & (np.diff(np.asarray(rows.episode)) == 0)
    if terminated.sum() < 3 or follows[terminated].mean() < 0.9:
        return
    warn_user(
        f"transitions: after {(follows & terminated).sum()} of {terminated.sum()} "
        "terminations the next row starts from next_obs, as if the episode went on. "
        "Vectorised loggers write this: either next_obs of a last row is already the "
        "first observation of the next episode (use the final observation instead), or "
        "a row without an action stands between episodes (leave it out)",
    )

"""Episodes outside JAX, more than an engine has lanes for: round after round."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from envs.moments import Moments
from envs.outside import Lanes, Policies, play_lanes, random_actor
from envs.session import Session
from envs.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class Fault:
    """An episode outside JAX that went wrong.

    Attributes:
      policy: The policy's place in its batch, `()` for a single one.
      episode: The episode's number.
      lane: The copy of the environment that it was played in.
      seed: What that was reset with.
      message: What happened.
      replaced: Whether the episode was played again, in a fresh environment and from
        another seed. If not, its return is NaN.
    """

    policy: tuple[int, ...]
    episode: int
    lane: int
    seed: int
    message: str
    replaced: bool

    def __str__(self) -> str:
        policy = f"policy {', '.join(map(str, self.policy))}, " if self.policy else ""
        end = "played again" if self.replaced else "its return is NaN"
        return (
            f"{policy}episode {self.episode} (lane {self.lane}, seed {self.seed}): "
            f"{self.message}; {end}"
        )


@dataclasses.dataclass
class Played:
    """Episodes of P policies, E each.

    Attributes:
      returns: float32 `[P, E]`, NaN where an episode failed for good.
      lengths: int32 `[P, E]`.
      steps: All steps that were taken, those of failed episodes too.
      faults: What went wrong.
      seen: The observations that were acted on.
    """

    returns: np.ndarray
    lengths: np.ndarray
    steps: int
    faults: list[Fault]
    seen: Moments = dataclasses.field(default_factory=Moments)


def play_rounds(
    session: Session,
    policies: Policies,
    space: Any,
    keys: jax.Array,
    num_episodes: int,
    time_limit: int | None = None,
    most: int | None = None,
) -> Played:
    """Plays the episodes of all policies, each once.

    Args:
      session: Whose engine.
      policies: P of them.
      space: The action space.
      keys: `[P]`; the same key gives the same seeds.
      num_episodes: E.
      time_limit: As for `play_lanes`.
      most: Likewise.
    """
    shape = (len(keys), num_episodes)
    e = min(num_episodes, session.max_envs)
    p = min(len(keys), session.max_envs // e)
    session.engine(p * e)
    seeds, action_keys = _draw(keys, num_episodes)
    played = Played(
        np.full(shape, np.nan, np.float32), np.zeros(shape, np.int32), 0, []
    )
    with _progress(session, len(keys) * num_episodes, "episodes") as bar:
        for index, episode, todo in _chunks(*shape, p, e):
            chosen = action_keys[np.ix_(index, episode)]
            places = np.repeat(index, e), np.tile(episode, p)
            bar.update(int(todo.sum()))
            for attempt in (0, 1):  # A failed episode has a second chance.
                lanes = play_lanes(
                    session,
                    policies.actor(index, chosen, space, session.name),
                    seeds[attempt][places],
                    todo,
                    time_limit=time_limit,
                    most=most,
                    on_obs=played.seen.add,
                )
                todo = _keep(played, lanes, todo, places, attempt == 0)
                for lane, message in sorted(lanes.faults.items()):
                    played.faults.append(
                        Fault(
                            _place(places[0][lane], policies.batch),
                            int(places[1][lane]),
                            lane,
                            int(seeds[attempt][places][lane]),
                            message,
                            bool(todo[lane]),
                        )
                    )
                if not todo.any():
                    break
    return played


def _chunks(
    num_policies: int, num_episodes: int, p: int, e: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Policies `[p]`, episodes `[e]`, and which of the `[p * e]` there really are."""
    for i in range(0, num_policies, p):
        for j in range(0, num_episodes, e):
            index, episode = np.arange(i, i + p), np.arange(j, j + e)
            exist = (index < num_policies)[:, None] & (episode < num_episodes)
            index = np.minimum(index, num_policies - 1)
            yield index, np.minimum(episode, num_episodes - 1), exist.ravel()


def _keep(
    played: Played,
    lanes: Lanes,
    todo: np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
    is_first: bool,
) -> np.ndarray:
    """Writes down what was played; returns the lanes to be played again."""
    failed = np.zeros(len(todo), bool)
    failed[list(lanes.faults)] = True
    again = np.zeros(len(todo), bool)
    if is_first:
        again[[i for i in lanes.faults if i not in lanes.policy_faults]] = True
    policy, episode = places
    done = todo & ~failed
    played.returns[policy[done], episode[done]] = lanes.returns[done]
    played.lengths[policy[todo], episode[todo]] = lanes.lengths[todo]
    played.steps += int(lanes.lengths.sum())
    return again


def _place(policy: int, batch: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(policy, batch)) if batch else ()


@functools.partial(jax.jit, static_argnames="num_episodes")
def _draw_keys(keys, num_episodes):
    pairs = jax.vmap(lambda key: jax.random.split(key, (num_episodes, 2)))(keys)
    bits = jax.vmap(jax.vmap(jax.random.bits))
    again = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, 1)))
    return bits(pairs[..., 0]), bits(again(pairs[..., 0])), pairs[..., 1]


def _draw(keys: jax.Array, num_episodes: int) -> tuple[list[np.ndarray], jax.Array]:
    """Seeds `[P, E]` below 2^31 for two attempts, and keys `[P, E]` for actions."""
    first, second, action_keys = _draw_keys(keys, num_episodes)
    seeds = [np.asarray(bits, np.int64) >> 1 for bits in (first, second)]
    return seeds, action_keys


def _progress(session: Session, number: int, unit: str) -> tqdm.tqdm:
    """A bar for what takes a while, on a terminal, with steps per second."""
    bar = tqdm.tqdm(total=number, desc=session.name, unit=unit, delay=3, disable=None)
    session.on_steps = lambda cost: bar.set_postfix_str(
        f"{cost.steps_per_second:,.0f} steps/s", refresh=False
    )
    return bar


def collect_rounds(
    session: Session,
    policies: Policies | None,
    space: Any,
    key: jax.Array,
    num_transitions: int,
    time_limit: int | None,
    num_envs: int,
    limit_known: int | None,
) -> Transitions:
    """Whole episodes in their order, and the last one cut where it is enough.

    Args:
      session: Whose engine.
      policies: A single one, or None for random actions.
      space: The action space.
      key: A PRNG key.
      num_transitions: How many rows.
      time_limit: As for `play_lanes`.
      num_envs: Episodes side by side, at most.
      limit_known: The most steps that an episode is known to take, or None.

    Raises:
      RuntimeError: No episode of three rounds in a row was without a fault.
    """
    key_episodes, key_space = jax.random.split(key)
    rows: list[list[np.ndarray]] = []
    have = episode = failures = 0
    expected = limit_known or num_transitions
    lanes_in_use = session.engine(num_envs).num_envs
    draw = random_actor(copy.deepcopy(space), int(jax.random.bits(key_space) >> 1))
    with _progress(session, num_transitions, "transitions") as bar:
        while have < num_transitions:
            need = num_transitions - have
            count = min(lanes_in_use, -(-need // max(1, int(expected))))
            seeds, keys = _draw(
                jax.random.fold_in(key_episodes, episode)[None], lanes_in_use
            )
            recorder = _Recorder()
            lanes = play_lanes(
                session,
                draw
                if policies is None
                else policies.actor(np.arange(1), keys, space, session.name),
                seeds[0][0],
                np.arange(lanes_in_use) < count,
                time_limit=time_limit,
                max_steps=need,
                on_step=recorder,
            )
            session.faults += [
                Fault((), episode + lane, lane, int(seeds[0][0][lane]), message, True)
                for lane, message in sorted(lanes.faults.items())
            ]
            good = [lane for lane in range(count) if lane not in lanes.faults]
            failures = 0 if good else failures + 1
            if failures == 3:
                raise RuntimeError(
                    f"task {session.name!r}: every episode failed; {session.faults[-1]}"
                )
            for lane in good:
                rows.append(recorder.rows(lane, lanes.lengths[lane]))
            taken = int(lanes.lengths[good].sum())
            have, episode = have + taken, episode + lanes_in_use
            expected = np.mean(lanes.lengths[good]) if good else expected
            bar.update(min(taken, need))
    columns = [np.concatenate(x)[:num_transitions] for x in zip(*rows, strict=True)]
    if isinstance(getattr(space, "start", None), int | np.integer):
        columns[1] = columns[1] - space.start
    # Through JAX, for its dtypes: float32 and int32, unless x64 is enabled.
    return Transitions(*map(jnp.asarray, columns))


class _Recorder:
    """What every lane saw at every step."""

    def __init__(self):
        self._steps: list[tuple[np.ndarray, ...]] = []

    def __call__(self, obs: Any, actions: Any, outcome: Any) -> None:
        self._steps.append(
            (
                np.array(obs),
                np.array(actions),
                outcome.reward,
                outcome.obs,
                outcome.terminated,
                outcome.truncated,
            )
        )

    def rows(self, lane: int, length: int) -> list[np.ndarray]:
        """The fields of the lane's first transitions."""
        steps = self._steps[:length]
        return [
            np.stack([column[lane] for column in field])
            for field in zip(*steps, strict=True)
        ]

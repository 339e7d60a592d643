"""Tasks outside JAX: any environment of Gymnasium's or EnvPool's as a real task."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any, Literal, get_args

import gymnasium
import jax
import numpy as np

from envs.moments import Moments
from envs.ongoing import Ongoing
from envs.outside import Policies
from envs.play import Episodes
from envs.rounds import Fault, collect_rounds, play_rounds
from envs.session import Cost, Session
from envs.sources import envpool_has, of_envpool, of_gymnasium
from envs.spaces import Spaces
from envs.steps import StepKind, Steps
from envs.task import (
    Task,
    check_num_episodes,
    check_single,
    keys_of,
    not_a_pair,
    sha256,
)
from envs.transitions import Transitions
from jaxrl_runs.values import (
    MANY,
    POSITIVE_OR_NONE,
    THRESHOLD_OR_NONE,
    Integer,
    OneOf,
    Text,
    as_key,
    as_keys,
    shown,
)
from jaxrl_runs.warn import warn_user

EngineName = Literal["envpool", "gymnasium", "gymnasium-processes"]
ENGINES: tuple[EngineName, ...] = ("envpool", "gymnasium", "gymnasium-processes")
_AS_ACTIONS = (gymnasium.spaces.Discrete, gymnasium.spaces.Box)
_MOST_STEPS = 30_000  # Of an episode where no time limit is known: Atari's have 27,000.
# Lanes where nobody says how many: enough to keep an engine busy.
_MAX_ENVS = {"envpool": 1024, "gymnasium": 256, "gymnasium-processes": 8}


@dataclasses.dataclass(frozen=True, eq=False)
class ExternalTask(Task):
    """A task outside JAX; `external` makes one.

    It is played between jitted programs: one call of all policies, one step of all
    environments, in turn. Each lane of the engine plays one episode after a reset with
    a seed of its own. The same key gives the same episodes, with the same engine and
    number of threads.

    Attributes:
      session: The engine, and what it has cost.
      obs_space: Of one environment, a space of Gymnasium's.
      act_space: Likewise.
      limit: The time limit, None if nothing is known.
      adds_limit: Whether `limit` is to be kept from outside.
      engine: How it is stepped, in words, for `digest`.
    """

    session: Session = None  # type: ignore
    obs_space: Any = None
    act_space: Any = None
    limit: int | None = None
    adds_limit: bool = False
    engine: str = ""

    @property
    def is_external(self) -> bool:
        """True."""
        return True

    @property
    def pair(self) -> tuple[Any, Any]:
        """Raises TypeError: there is none."""
        raise TypeError(not_a_pair(self.name, "task"))

    def observation_space(self, params: Any = None) -> gymnasium.Space:
        """The space of one environment's observations."""
        return self.obs_space

    def action_space(self, params: Any = None) -> gymnasium.Space:
        """The space of one environment's actions."""
        return self.act_space

    @functools.cached_property
    def spaces(self) -> Spaces:
        """Its spaces.

        Raises:
          ValueError: Actions are neither discrete nor vectors.
        """
        if not isinstance(self.act_space, _AS_ACTIONS):
            raise ValueError(
                f"task {self.name!r}: actions must be Discrete or a vector Box, got "
                f"{self.act_space}"
            )
        return Spaces.of(self, None)  # type: ignore

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode is truncated, None if nothing is known."""
        return self.limit

    @functools.cached_property
    def digest(self) -> str:
        """A SHA-256 of what the task is, as far as can be seen from outside."""
        spaces = (repr(self.obs_space), repr(self.act_space))
        return sha256(self.name, self.kind, self.engine, *spaces, str(self.limit))

    @property
    def cost(self) -> Cost:
        """What playing has cost so far, in the engine and in policies."""
        return self.session.cost

    @property
    def faults(self) -> list[Fault]:
        """The episodes that went wrong when it was last played."""
        return self.session.faults

    @property
    def seen(self) -> Moments:
        """The observations that policies acted on when it was last played."""
        return self.session.seen

    def play(
        self,
        policies: Any,
        key: Any,
        num_episodes: int = 10,
        *,
        params: Any = None,
        num_axes: int | None = None,
        time_limit: int | None = None,
    ) -> tuple[Episodes, Steps]:
        """Plays whole episodes; see `Task.play`, to which this adds some more.

        A policy may also be one that JAX cannot trace (of NumPy, of another library);
        it is called lane by lane. Actions are passed on as they are, not clipped.

        Where an environment raises or gives NaN, its episode is played again, in a
        fresh environment and from another seed. Where that fails too, or the policy
        gives NaN, the return is NaN. `faults` names them, and a RuntimeWarning does.

        Args:
          policies: As for `Task.play`.
          key: Likewise.
          num_episodes: Likewise.
          params: None; there are none.
          num_axes: As for `Task.play`.
          time_limit: Steps after which these episodes are truncated, in the place of a
            longer limit of the task's.

        Returns:
          `Episodes` of NumPy arrays `[..., num_episodes]`, and all steps that were
          taken, those of failed episodes included.

        Raises:
          RuntimeError: Every episode failed because of its environment, or one did not
            end in 100,000 steps where no time limit is known.
          TimeoutError: An environment hangs.
          envs.engines.SpaceChangedError: An environment's spaces change.
          ValueError: As for `Task.play`, there are `params`, or `time_limit` is not
            positive.
        """
        check_num_episodes(num_episodes)
        if params is not None:
            raise ValueError(
                f"params must be None for {self.name!r}, got {shown(params)}"
            )
        Integer(optional=True).check("time_limit", time_limit)
        found = Policies.of(
            policies, self.obs_space, self.act_space, num_axes, self.name
        )
        keys = keys_of(as_keys(key), found.batch).reshape(-1)
        limit = self.limit if self.adds_limit else None
        if time_limit is not None and (self.limit is None or time_limit < self.limit):
            limit = time_limit
        is_endless = limit is None and self.limit is None
        played = play_rounds(
            self.session,
            found,
            self.act_space,
            keys,
            num_episodes,
            limit,
            _MOST_STEPS if is_endless else None,
        )
        self.session.faults, self.session.seen = played.faults, played.seen
        self._report()
        if played.faults and not np.isfinite(played.returns).any():
            raise RuntimeError(
                f"task {self.name!r}: every episode failed; {played.faults[-1]}"
            )
        episodes = Episodes(
            played.returns.reshape(*found.batch, num_episodes),
            played.lengths.reshape(*found.batch, num_episodes),
        )
        return episodes, Steps.of(self.kind, played.steps)

    def collect(
        self,
        num_transitions: int,
        key: Any,
        policy: Any = None,
        *,
        num_axes: int | None = None,
    ) -> Transitions:
        """Transitions of whole episodes; see `envs.collect`.

        An episode whose environment fails, or whose policy gives NaN, is left out.
        """
        MANY.check("num_transitions", num_transitions)
        found = None
        if policy is not None:
            found = Policies.of(
                policy, self.obs_space, self.act_space, num_axes, self.name
            )
            check_single(found.batch)
        self.session.faults = []
        num_envs = -(-num_transitions // (self.limit or num_transitions))
        transitions = collect_rounds(
            self.session,
            found,
            self.act_space,
            as_key(key),
            num_transitions,
            self.limit if self.adds_limit else None,
            num_envs,
            self.limit,
        )
        self._report()
        return transitions

    def ongoing(self, keys: Any) -> Ongoing:
        """Lanes to train in, each at its next episode as soon as one ends.

        The task must not be played meanwhile: there is one engine.

        Args:
          keys: PRNG keys `[N]`, one for each lane.

        Raises:
          TypeError: An environment that was given as it is cannot begin an episode in
            one lane alone.
          ValueError: There are not so many lanes.
        """
        seeds = np.asarray(jax.vmap(jax.random.bits)(as_keys(keys, "keys")))
        limit = self.limit if self.adds_limit else None
        return Ongoing(self.session, self.act_space, seeds, limit)

    def _report(self) -> None:
        if self.faults:
            more = f", and {len(self.faults) - 3} more" if len(self.faults) > 3 else ""
            named = "; ".join(map(str, self.faults[:3]))
            warn_user(f"task {self.name!r}: {named}{more}", RuntimeWarning)

    def close(self) -> None:
        """Closes the environments; they are made again when they are needed."""
        self.session.close()


def external(
    task: Any,
    num_envs: int | None = None,
    *,
    engine: EngineName | None = None,
    name: str | None = None,
    kind: StepKind = "real",
    solved_return: float | None = None,
    time_limit: int | None = None,
    timeout: float | None = 120.0,
    num_threads: int | None = None,
    **options: Any,
) -> ExternalTask:
    """Opens a task outside JAX, to be played, scored and collected from.

    Args:
      task: A Gymnasium or EnvPool id; a function without arguments that makes a
        `gymnasium.Env`, or a `gymnasium.vector.VectorEnv`; or either of these
        themselves (a single environment is one lane and cannot be made anew).
      num_envs: How many environments are stepped side by side, at most.
      engine: "envpool" steps in threads of C++; "gymnasium" steps environments of
        Python in turn; "gymnasium-processes" gives each a process (its factory has to
        be one that can be pickled). By default EnvPool if it is installed and has the
        id, and Gymnasium otherwise.
      name: What reports call it; by default its id, or its class.
      kind: What its steps count as.
      solved_return: By default what the id is registered with.
      time_limit: Steps after which an episode is truncated, if the environment does
        not do so earlier.
      timeout: Seconds that one step of all environments may take before it is an
        error, None for ever.
      num_threads: EnvPool's threads; by default one per core.
      **options: For `gymnasium.make` or `envpool.make_gymnasium`.

    Raises:
      ValueError: An argument is not valid, or no engine has the id.
      TypeError: `task` is none of these, or observations are no single arrays.
      ImportError: The engine is not installed.

    Example:
      >>> task = external("Pendulum-v1", engine="gymnasium")
      >>> task.time_limit
      200
    """
    Integer(at_most=2**16, optional=True).check("num_envs", num_envs)
    Integer(at_most=1024, optional=True).check("num_threads", num_threads)
    Integer(optional=True).check("time_limit", time_limit)
    POSITIVE_OR_NONE.check("timeout", timeout)
    OneOf(ENGINES, optional=True).check("engine", engine)
    Text(optional=True).check("name", name)
    OneOf(get_args(StepKind)).check("kind", kind)
    THRESHOLD_OR_NONE.check("solved_return", solved_return)
    if engine is None:
        engine = "envpool" if envpool_has(task) else "gymnasium"
    if engine == "envpool":
        source = of_envpool(task, num_threads or os.cpu_count() or 1, options)
    else:
        source = of_gymnasium(task, engine == "gymnasium-processes", options)
    if source.fixed is not None and num_envs not in (None, source.fixed):
        raise ValueError(
            f"num_envs must be {source.fixed}, as many as there are, got {num_envs}"
        )
    name = name or source.name
    session = Session(
        name,
        source.make,
        source.fixed or num_envs or _MAX_ENVS[engine],
        is_fixed=source.fixed is not None,
        timeout=timeout,
    )
    if source.act_space.shape is None:
        raise TypeError(
            "task: actions must be single arrays, got "
            f"{type(source.act_space).__name__}"
        )
    if source.obs_space.shape is None:
        raise TypeError(
            "task: observations must be single arrays, got "
            f"{type(source.obs_space).__name__}; flatten them first"
        )
    own = source.time_limit
    adds_limit = time_limit is not None and (own is None or time_limit < own)
    return ExternalTask(
        name,
        None,
        None,
        kind,
        source.solved_return if solved_return is None else solved_return,
        session=session,
        obs_space=source.obs_space,
        act_space=source.act_space,
        limit=time_limit if adds_limit else own,
        adds_limit=adds_limit,
        engine=f"{engine} {source.version} {sorted(options.items())}",
    )

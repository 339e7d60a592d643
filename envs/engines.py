"""What steps a task outside JAX: EnvPool, or vector environments of Gymnasium's.

An engine is N copies (lanes) of one environment. All of them are reset with a seed
each, and stepped as a batch until each has ended its one episode; what a lane does
after that is not looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from envs.gymnasium_spaces import flat_space, flatten_rows, flattened
from envs.gymnasium_vector import GymnasiumVectorEnv
from envs.old_gym import OldInterfaceError, as_reset, as_step, takes_no_seed


class SpaceChangedError(ValueError):
    """An environment whose observations are not those that it announced."""


@dataclasses.dataclass
class Outcome:
    """What one step of all lanes gave.

    Attributes:
      obs: `[N, ...]`, what the actions led to, also at the end of an episode.
      reward: float64 `[N]`.
      terminated: bool `[N]`, ended by the task.
      truncated: bool `[N]`, ended by its time limit.
      faults: By lane, what went wrong; the lane's episode is void.
    """

    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    faults: dict[int, str]


class Engine(Protocol):
    """N lanes of one task outside JAX: the protocol for engines of your own.

    Attributes:
      num_envs: N.
      observation_space: Of one lane, a space of Gymnasium's.
      action_space: Likewise.
    """

    num_envs: int
    observation_space: gymnasium.Space
    action_space: gymnasium.Space

    def reset(self, seeds: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Starts an episode in every lane.

        The same seeds give the same episodes for the same actions. A lane that has
        failed before is made anew.

        Args:
          seeds: One in [0, 2^31) for each lane.

        Returns:
          Observations `[N, ...]`, and faults by lane.
        """
        ...

    def step(self, actions: np.ndarray, active: np.ndarray) -> Outcome:
        """Steps the lanes whose episode is not over.

        Args:
          actions: `[N, ...]`, in the dtype of the action space.
          active: bool `[N]`; what the other lanes give is not looked at.
        """
        ...

    def busy(self) -> list[int]:
        """The lanes that are in a step at this moment, as far as is known."""
        ...

    def close(self) -> None:
        """Lets go of everything."""
        ...


class VectorEngine:
    """Any `gymnasium.vector.VectorEnv`, whatever its mode of autoreset.

    Args:
      vector: The environment.
      owned: Whether to close it in the end.

    Attributes:
      restarts: Whether there is `restart`, which Gymnasium's own vectors allow.

    Raises:
      TypeError: It is an EnvPool, whose seeds are fixed when it is made.
    """

    def __init__(self, vector: gymnasium.vector.VectorEnv, owned: bool = False):
        if any(c.__module__.startswith("envpool") for c in type(vector).__mro__):
            raise TypeError(
                "task must be the name of an EnvPool environment instead of the "
                "environment, whose seeds are fixed when it is made: "
                "envs.external(name, engine='envpool')"
            )
        self._vector, self._owned = vector, owned
        self.num_envs = vector.num_envs
        self._given_space = vector.single_observation_space
        self.observation_space = flat_space(self._given_space)
        self.action_space = vector.single_action_space
        # Metadata may be shared with other environments of the class.
        mode = getattr(vector, "autoreset_mode", None) or vector.metadata.get(
            "autoreset_mode", AutoresetMode.NEXT_STEP
        )
        self._mode = AutoresetMode(mode)
        self._over = np.zeros(self.num_envs, bool)
        own = SyncVectorEnv | AsyncVectorEnv
        self.restarts = isinstance(vector.unwrapped, own)

    def reset(self, seeds: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Starts episodes; see `Engine`."""
        per_lane = SyncVectorEnv | AsyncVectorEnv | GymnasiumVectorEnv
        if isinstance(self._vector.unwrapped, per_lane):
            seed: Any = [int(seed) for seed in seeds]
        else:  # Gymnasium's interface has one seed for all lanes.
            seed = int(np.random.SeedSequence(list(seeds)).generate_state(1)[0] >> 1)
        obs, infos = as_reset(self._vector.reset(seed=seed))
        self._over[:] = False
        return self._checked(obs), _faults(infos)

    def step(self, actions: np.ndarray, active: np.ndarray) -> Outcome:
        """Steps all lanes, also those that are not active; see `Engine`."""
        if self._mode == AutoresetMode.DISABLED and self._over.any():
            self._vector.reset(options={"reset_mask": self._over.copy()})
        outputs = as_step(self._vector.step(actions))
        obs, reward, terminated, truncated, infos = outputs
        obs = self._checked(obs)
        terminated = self._for_lanes("terminated", terminated, bool)
        truncated = self._for_lanes("truncated", truncated, bool)
        self._over = terminated | truncated
        if self._mode == AutoresetMode.SAME_STEP and self._over.any():
            obs = obs.copy()
            for lane in np.flatnonzero(self._over):
                last = infos["final_obs"][lane]
                obs[lane] = flattened(self._given_space, last)
        reward = self._for_lanes("reward", reward, np.float64)
        return Outcome(obs, reward, terminated, truncated, _faults(infos))

    def restart(
        self, lanes: np.ndarray, seeds: Sequence[int]
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Starts an episode in some lanes, whose last one is over.

        Args:
          lanes: int `[K]`, which.
          seeds: One in [0, 2^31) for each.

        Returns:
          Observations `[N, ...]`, of which those of these lanes are new, and faults.
        """
        mask, every = np.zeros(self.num_envs, bool), [None] * self.num_envs
        mask[lanes] = True
        for lane, seed in zip(lanes, seeds, strict=True):
            every[lane] = int(seed)  # type: ignore
        options = {"reset_mask": mask}
        obs, infos = as_reset(self._vector.reset(seed=every, options=options))  # type: ignore
        self._over[lanes] = False
        return self._checked(obs), _faults(infos)

    def busy(self) -> list[int]:
        """The lane in a step, where lanes take turns in this process."""
        lanes = getattr(self._vector.unwrapped, "envs", ())
        return [i for i, lane in enumerate(lanes) if getattr(lane, "busy", False)]

    def close(self) -> None:
        """Closes the environment if it is this engine's own."""
        if self._owned:
            options = {"terminate": True}  # Its processes may hang.
            is_async = isinstance(self._vector, AsyncVectorEnv)
            self._vector.close(**(options if is_async else {}))

    def _for_lanes(self, name: str, values: Any, dtype: Any) -> np.ndarray:
        """Numbers `[N]`, whatever shape one for each lane came in."""
        array = np.array(values, dtype)
        if array.size != self.num_envs:
            raise ValueError(
                f"{name} must be one number for each of {self.num_envs} lanes, got "
                f"shape {array.shape}"
            )
        return array.reshape(-1)

    def _checked(self, obs: Any) -> np.ndarray:
        obs = flatten_rows(self._given_space, obs)
        expected = (self.num_envs, *(self.observation_space.shape or ()))
        if obs.shape != expected:
            raise SpaceChangedError(
                f"observations of all lanes must have shape {expected} as announced, "
                f"got {obs.shape}"
            )
        return obs


def _faults(infos: dict[str, Any]) -> dict[int, str]:
    if "fault" not in infos:
        return {}
    return {int(i): str(infos["fault"][i]) for i in np.flatnonzero(infos["_fault"])}


class Lane(gymnasium.Env):
    """One environment of Gymnasium's as a lane: it fails without the others.

    Observations that are mappings or tuples are flattened as Gymnasium does it. An
    exception or NaN ends its episode and is told in the infos; the environment is
    made anew for the next one. Between the end of its episode and the next seed it
    rests: steps and the resets of an autoreset cost nothing.

    Args:
      make: Makes the environment; None if it cannot be made anew.
      index: Its number, for messages.
      env: The first one, if there is one already.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env] | None,
        index: int = 0,
        env: gymnasium.Env | None = None,
    ):
        self._make, self._index = make, index
        self._env = make() if env is None and make is not None else env
        assert self._env is not None, "make or env"
        self._given_space = self._env.observation_space
        self.observation_space = flat_space(self._given_space)
        self.action_space = self._env.action_space
        self.metadata = dict(self._env.metadata)  # Gymnasium writes into it.
        self.busy, self._resting = False, True
        shape = self.observation_space.shape or ()
        self._obs: Any = np.zeros(shape, self.observation_space.dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode if there is a seed for it."""
        if seed is None:
            self._resting = True
            return self._obs, {}
        try:
            with self._working():
                if self._env is None and self._make is not None:
                    self._env = self._make()
                assert self._env is not None
                obs, _ = as_reset(self._env.reset(seed=seed, options=options))
        except OldInterfaceError:
            raise
        except Exception as error:
            if (old := takes_no_seed(error)) is not None:
                raise old from error
            return self._obs, self._fail(f"reset raised {_named(error)}")
        for name, announced in (
            ("observation_space", self._given_space),
            ("action_space", self.action_space),
        ):
            if getattr(self._env, name) != announced:
                raise SpaceChangedError(
                    f"{name} of lane {self._index} must stay {announced}, "
                    f"got {getattr(self._env, name)}"
                )
        self._resting = False
        self._obs = self._checked(obs)
        if np.isnan(self._obs).any():
            return self._obs, self._fail("reset gave an observation with NaN")
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes a step of the episode, if there is one."""
        if self._resting or self._env is None:
            return self._obs, 0.0, False, False, {}
        try:
            with self._working():
                outputs = as_step(self._env.step(action))
                obs, reward, terminated, truncated, _ = outputs
                reward = _single("reward", reward, float)
                terminated = _single("terminated", terminated, bool)
                truncated = _single("truncated", truncated, bool)
        except OldInterfaceError:
            raise
        except Exception as error:
            fault = self._fail(f"step raised {_named(error)}")
            return self._obs, 0.0, True, False, fault
        self._obs = self._checked(obs)
        if np.isnan(reward) or np.isnan(self._obs).any():
            what = "a reward" if np.isnan(reward) else "an observation"
            fault = self._fail(f"step gave {what} with NaN")
            return self._obs, reward, True, False, fault
        return self._obs, reward, terminated, truncated, {}

    def close(self) -> None:
        """Closes the environment."""
        if self._env is not None:
            self._env.close()

    @contextlib.contextmanager
    def _working(self):
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def _fail(self, fault: str) -> dict[str, Any]:
        self._resting = True
        if self._make is not None:
            with contextlib.suppress(Exception):
                self.close()
            self._env = None
        return {"fault": fault}

    def _checked(self, obs: Any) -> np.ndarray:
        try:
            obs = flattened(self._given_space, obs)
        except (KeyError, TypeError, ValueError) as error:
            raise SpaceChangedError(
                f"observations of lane {self._index} must be elements of "
                f"{self._given_space} as announced, got {obs!r:.80}"
            ) from error
        if obs.shape != self.observation_space.shape:
            raise SpaceChangedError(
                f"observations of lane {self._index} must have shape "
                f"{self.observation_space.shape} as announced, got {obs.shape}"
            )
        return obs


def _single(name: str, value: Any, kind: type) -> Any:
    """A number of Python, whatever shape a single one came in."""
    if np.size(value) != 1:
        raise ValueError(f"{name} must be a single number, got shape {np.shape(value)}")
    return kind(np.asarray(value).reshape(-1)[0])


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def gymnasium_engine(
    make: Callable[[], gymnasium.Env] | None,
    num_envs: int,
    *,
    processes: bool = False,
    first: gymnasium.Env | None = None,
) -> VectorEngine:
    """Copies of an environment in Gymnasium's own vector environments.

    Args:
      make: Makes one; None if there is only the first.
      num_envs: How many.
      processes: Whether each has a process of its own, or all take turns in this one.
        `make` is pickled for them.
      first: A copy that exists already, for the first lane of this process.
    """
    if processes:
        lanes = [_LaneMaker(make, i) for i in range(num_envs)]
        return VectorEngine(AsyncVectorEnv(lanes, context="spawn"), owned=True)
    made: list[gymnasium.Env | None] = [first] + [None] * (num_envs - 1)
    lanes = [
        lambda i=i, env=env: Lane(make, i, env)  # type: ignore
        for i, env in enumerate(made)
    ]
    return VectorEngine(SyncVectorEnv(lanes), owned=True)


@dataclasses.dataclass(frozen=True)
class _LaneMaker:
    make: Callable[[], gymnasium.Env] | None
    index: int

    def __call__(self) -> gymnasium.Env:
        return Lane(self.make, self.index)


class EnvPoolEngine:
    """An environment of EnvPool's, stepped by its threads.

    EnvPool fixes seeds when it makes its environments, so that it makes them anew at
    every reset: about as long as 60 steps take for MuJoCo's, less for others.

    Args:
      name: EnvPool's id, which is Gymnasium's where both have it.
      num_envs: How many.
      num_threads: Threads; results are the same for the same number of them.
      **options: For `envpool.make_gymnasium`.

    Attributes:
      restarts: True, see `VectorEngine`.

    Raises:
      ImportError: EnvPool is not installed.
      ValueError: It does not have the environment or an option.
    """

    restarts = True

    def __init__(self, name: str, num_envs: int, num_threads: int, **options: Any):
        envpool = import_envpool()
        if name not in envpool.list_all_envs():
            raise ValueError(f"task must be an id of EnvPool's, got {name!r}")
        self._name, self._options = name, {"num_threads": num_threads, **options}
        self.num_envs = num_envs
        self._pool: Any = None
        with _quietly():
            try:
                spec: Any = envpool.make_spec(name, **options)
            except TypeError as error:
                raise ValueError(
                    f"options of {name} must be EnvPool's, got {options}: {error}"
                ) from error
            self.observation_space = spec.gymnasium_observation_space
            self.action_space = spec.gymnasium_action_space
        self.time_limit = getattr(spec.config, "max_episode_steps", None)
        self.solved_return = getattr(spec.config, "reward_threshold", None)

    def reset(self, seeds: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Starts episodes; see `Engine`."""
        self.close()
        with _quietly():
            self._pool = import_envpool().make_gymnasium(
                self._name,
                num_envs=self.num_envs,
                env_seed=[int(seed) for seed in seeds],
                **self._options,
            )
            obs, _ = self._pool.reset()
        self._last = np.array(obs)
        return self._last.copy(), {}

    def step(self, actions: np.ndarray, active: np.ndarray) -> Outcome:
        """Steps the active lanes alone; see `Engine`."""
        lanes = np.flatnonzero(active).astype(np.int32)
        obs, reward, terminated, truncated, info = self._pool.step(
            np.ascontiguousarray(actions[lanes]), lanes
        )
        lanes = info["env_id"]
        self._last[lanes] = obs
        outcome = Outcome(
            self._last.copy(),
            np.zeros(self.num_envs),
            np.zeros(self.num_envs, bool),
            np.zeros(self.num_envs, bool),
            {},
        )
        outcome.reward[lanes] = reward
        outcome.terminated[lanes] = terminated
        outcome.truncated[lanes] = truncated
        return outcome

    def restart(
        self, lanes: np.ndarray, seeds: Sequence[int]
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Starts the next episode of some lanes; see `VectorEngine.restart`.

        Seeds are not looked at: the stream of a lane goes on, as its first seed had it.
        """
        del seeds
        obs, info = self._pool.reset(np.asarray(lanes, np.int32))
        self._last[info["env_id"]] = obs
        return self._last.copy(), {}

    def busy(self) -> list[int]:
        """Its threads do not say."""
        return []

    def close(self) -> None:
        """Lets go of EnvPool's environments."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def import_envpool() -> Any:
    """The module, or an ImportError that says how to install it."""
    try:
        import envpool  # type: ignore
    except ImportError as error:
        raise ImportError(
            "engine 'envpool' needs EnvPool: pip install 'jaxrl-se[external]', or take "
            "engine='gymnasium'"
        ) from error
    return envpool


@contextlib.contextmanager
def _quietly():
    """Without Gymnasium's warnings about the precision of EnvPool's bounds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered.*")
        yield

"""From a log to an environment: `condition`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from envs import Transitions, episodes_of, in_order
from jaxrl_runs.values import FLAG, NOT_NEGATIVE, Integer, Like
from jaxrl_runs.warn import warn_user
from oswm.actions import say_wide
from oswm.context import Context
from oswm.ends import take_apart
from oswm.environment import DEFAULT_MAX_STEPS, WorldModelEnv, WorldModelParams
from oswm.fitting import ends_of, fit, noise_of, support_of
from oswm.inputs import Log, read_log, say_constant, say_numbered
from oswm.known_functions import check_callable, check_traced
from oswm.model import TransformerModel, can_read
from oswm.prior.dataset import MAX_ACTIONS, MAX_STATES
from oswm.progress import told
from oswm.weights import load_model
from oswm.world_model import WorldModel

# A log of fewer episodes shows too little of where they start: agents that start in
# one of five states see too few others. Measured on Pendulum, MountainCar and Acrobot.
FEW_STARTS = 10
_FEW_ROWS = 50
_PLACES = ("starts", "context", "both")
MODEL = Like(
    "a world model, one of oswm.Ridge(), oswm.KernelRidge(), oswm.FastKernelRidge(), "
    "oswm.MLPEnsemble(), oswm.NearestNeighbours(), oswm.LeaveOneOut() and, for the "
    "shipped transformer, oswm.load_model(),",
    ("fit", "predict", "sample"),
    optional=True,
)
_STEP_FUNCTION = Callable[[Any, Any, Any], Any]


def condition(
    log: Log,
    action_space: Any = None,
    max_steps: int | None = None,
    initial_obs: Any = None,
    model: WorldModel[Any] | None = None,
    terminated: _STEP_FUNCTION | None = None,
    *,
    reward: _STEP_FUNCTION | None = None,
    sample: bool | None = None,
    uncertainty_penalty: float = 1.0,
    margin: float = 0.05,
    progress: bool | None = None,
) -> tuple[WorldModelEnv, WorldModelParams]:
    """Turn transitions of a task into an environment that behaves like it.

    Args:
        log: About a thousand transitions, under any policy; what they do not show, the
            model cannot know. Rows of one episode in order of time tell where episodes
            start. `envs.Transitions`, a mapping or a DataFrame with its fields, a tuple
            of arrays (obs, action, reward, next_obs, terminated, truncated), of which
            the last two may be missing, or the path of a file.
        action_space: The task's, of gymnax or Gymnasium. Without it integer actions are
            discrete, and continuous ones are bounded by those in the context.
        max_steps: Time limit, after which an episode is truncated. By default the
            length of the longest truncated episode, or 200 without one.
        initial_obs: Observations [K, S] to start episodes from; "starts" for the first
            ones of the context's episodes; "context" for all of the context's, which
            makes rare rewards easier to find; "both" for half of each. By default
            "starts" where the context holds at least ten, else "context".
        model: A world model: `oswm.load_model()`, the shipped transformer, which is the
            default; `Ridge()`, `KernelRidge()`, `FastKernelRidge()`, `MLPEnsemble()`,
            `NearestNeighbours()`, or `LeaveOneOut()`, which takes the best of some for
            each target; or one of your own (`oswm.WorldModel`). If the task has more
            dimensions than the transformer reads, the default is the best of the
            models that it blends, for each target.
        terminated: `(obs, action, next_obs) -> bool` where it is known when the task
            ends an episode; by default it is learned from the context. It takes one
            step, float32 [S], int32 scalar or float32 [A], float32 [S], and is traced
            by JAX: written with jax.numpy, without `if` and `max`.
        reward: `(obs, action, next_obs) -> float` where the reward is known, likewise;
            by default it is learned from the context.
        sample: True draws each step by the model's own `sample`, False takes its mean.
            By default next observations are drawn, between states that can be counted
            as rows nearby have it (see `oswm.noise`), and so are ends; the reward is
            the mean one of what was drawn.
        uncertainty_penalty: See `WorldModelParams`; 0 trusts the model everywhere.
        margin: How far predictions may leave the range of the context's observations,
            as a share of that range.
        progress: Whether to say on stderr what is done; by default in a terminal or a
            notebook, and elsewhere after three seconds.

    Returns:
        A gymnax pair `(env, params)`. Context and fit are in params, so those of
        another context with as many rows work with the same environment and compile
        nothing.

    Raises:
        FileNotFoundError: There is no file at the path, or the installation lacks the
            shipped weights.
        TypeError: The model is no world model, or the log nothing that can be read.
        ValueError: Names the argument or the field that does not fit.
    """
    _check_arguments(max_steps, uncertainty_penalty, margin, terminated, reward)
    if sample is not None:
        FLAG.check("sample", sample)
    if progress is not None:
        FLAG.check("progress", progress)
    MODEL.check("model", model)
    transitions = in_order(read_log(log))
    say_numbered(transitions.obs)
    say_constant(transitions.obs)
    if len(transitions.obs) < _FEW_ROWS:
        warn_user(
            f"log: {len(transitions.obs)} rows are few to know a task by; a world "
            "model is made for about a thousand"
        )
    context = take_apart(Context.of(transitions, action_space))
    for name, function in (("terminated", terminated), ("reward", reward)):
        if function is not None:
            check_traced(name, function, context)
    starts, why = _initial_obs(context, transitions, initial_obs)
    if max_steps is None:
        max_steps = _longest_truncated(transitions)
        if not max_steps:
            max_steps = DEFAULT_MAX_STEPS
            why += f", and are cut after {max_steps} steps, as none is in it"
    is_default = model is None
    model = default_model(context) if model is None else model
    if is_default and not can_read(context):
        why += (
            f"; more than the {MAX_STATES} observations and {MAX_ACTIONS} dimensions "
            "of actions that the shipped transformer reads, so without it"
        )
    low, high = _action_bounds(context, action_space)
    env = WorldModelEnv(
        model,
        context.obs_size,
        context.num_actions,
        low,
        high,
        sample=sample,
        terminated=terminated,
        reward=reward,
        penalized=uncertainty_penalty > 0,
    )
    with told(_summary(context, model, why), progress):
        cache = jax.block_until_ready(fit(model, context))
    support = support_of(context, margin)
    noise = noise_of(model, cache, context, support) if sample is None else None
    support = support.including(starts)
    num_rows = max(len(starts), context.num_rows)
    return env, WorldModelParams(
        cache=cache,
        support=support,
        initial_obs=jnp.asarray(np.resize(starts, (num_rows, context.obs_size))),
        num_initial_obs=jnp.int32(len(starts)),
        uncertainty_penalty=jnp.float32(uncertainty_penalty),
        max_steps_in_episode=max_steps,
        noise=noise,
        ends=ends_of(context) if reward is None else None,
    )


def default_model(context: Context | None = None) -> WorldModel[Any]:
    """The model that `condition` takes without one: the shipped transformer.

    Args:
        context: What it is for; the transformer reads up to a number of observations
            and actions, and for more of them the models that it blends do without it.

    Raises:
        FileNotFoundError: The installation lacks its weights.
    """
    shipped = _shipped_model()
    return shipped if context is None or can_read(context) else shipped.base


@functools.cache
def _shipped_model() -> TransformerModel:
    try:
        return load_model()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"model: the shipped weights are missing ({error}); install the package "
            "anew, or pass a model that needs none, such as model=oswm.LeaveOneOut()"
        ) from error


def first_rows(transitions: Transitions) -> np.ndarray:
    """Rows [K] that start an episode.

    Raises:
        envs.OrderError: The rows are not in order of time.
    """
    return episodes_of(transitions).starts


def _check_arguments(max_steps, uncertainty_penalty, margin, terminated, reward):
    Integer(optional=True).check("max_steps", max_steps)
    NOT_NEGATIVE.check("uncertainty_penalty", uncertainty_penalty)
    NOT_NEGATIVE.check("margin", margin)
    check_callable("terminated", terminated)
    check_callable("reward", reward)


def _longest_truncated(transitions: Transitions) -> int:
    return episodes_of(transitions).time_limit or 0


def _initial_obs(
    context: Context, transitions: Transitions, given: Any
) -> tuple[np.ndarray, str]:
    """Observations [K, S] that episodes start from, and in words which."""
    everywhere = np.asarray(context.obs)
    if given is None:
        starts = everywhere[first_rows(transitions)]
        if len(starts) >= FEW_STARTS:
            return starts, f"episodes start as its {len(starts)} do"
        return everywhere, (
            f"episodes start anywhere in it, as it holds {len(starts)} starts alone"
        )
    check_starts("initial_obs", given, context.obs_size)
    if isinstance(given, str):
        if given == "context":
            return everywhere, "episodes start anywhere in it"
        starts = everywhere[first_rows(transitions)]
        if given == "starts":
            return starts, "episodes start as its own do"
        half = np.resize(starts, (-(-len(everywhere) // 2), context.obs_size))
        return np.concatenate([half, everywhere[1::2]]), (
            f"half of the episodes start as its {len(starts)} do, half anywhere"
        )
    given = np.asarray(given, np.float32)
    low, high = everywhere.min(axis=0), everywhere.max(axis=0)
    far = ((given < 2 * low - high) | (given > 2 * high - low)).any(axis=1)
    if far.any():
        warn_user(
            f"initial_obs: {far.sum()} of {len(given)} are far outside of what the log "
            f"has seen, first {given[far.argmax()]}; what happens there is not known",
        )
    return given, f"episodes start from {len(given)} given observations"


def check_starts(name: str, given: Any, size: int | None = None) -> None:
    """Raises ValueError unless it is what `condition` takes for `initial_obs`.

    Args:
        name: Of the argument, for the message.
        given: What a user gave.
        size: Of an observation, if it is known.
    """
    if given is None or (isinstance(given, str) and given in _PLACES):
        return
    if isinstance(given, str):
        raise ValueError(
            f'{name} must be an array, "starts", "context", "both" or None, got '
            f"{given!r}"
        )
    try:
        given = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        given = np.zeros(0, np.float32)
    wanted = given.shape[-1:] if size is None else (size,)
    if given.ndim != 2 or given.shape[1:] != wanted or not given.size:
        raise ValueError(
            f"{name} must be observations [K, {size or 'size'}], got shape "
            f"{given.shape}"
        )
    if not np.isfinite(given).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def _action_bounds(
    context: Context, action_space: Any
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if context.num_actions is not None:
        return (), ()
    action = np.asarray(context.action)
    bounds = action.min(axis=0), action.max(axis=0)
    if isinstance(action_space, gymnasium.spaces.Box | spaces.Box):
        given = np.asarray(action_space.low), np.asarray(action_space.high)
        shape = (context.action_size,)
        given = [np.broadcast_to(x.reshape(-1), shape) for x in given]
        bounds = [
            np.where(np.isfinite(x), x, seen)
            for x, seen in zip(given, bounds, strict=True)
        ]
        say_wide(action, *bounds)
    low, high = (tuple(np.asarray(x, np.float32).tolist()) for x in bounds)
    return low, high


def _summary(context: Context, model: WorldModel[Any], starts: str) -> str:
    """What is about to happen, in words."""
    actions = (
        f"{context.action_size} action dimensions"
        if context.num_actions is None
        else f"{context.num_actions} actions"
    )
    return (
        f"oswm: a context of {context.num_rows:,} rows, {context.obs_size} observations"
        f" and {actions}; {starts}; fitting {type(model).__name__}"
    )

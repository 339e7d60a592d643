"""Names of arguments that do not exist, and which one was meant.

A package calls `explain_keywords(globals(), __all__)` behind its imports: its public
dataclasses and functions then name the argument that a user of another library means,
and agents refuse numbers that break their rules where they are written down.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxrl_runs import values

# As Stable-Baselines3, CleanRL, rejax, gymnax, optax and Keras call them; where several
# of ours can be meant, the first one that there is. docs/guides/agents.md has a table.
_MEANT: dict[str, tuple[str, ...]] = {
    "gamma": ("discount",),
    "discount_factor": ("discount",),
    "lr": ("learning_rate",),
    "alpha": ("learning_rate", "initial_temperature"),
    "tau": ("target_update_rate",),
    "polyak": ("target_update_rate",),
    "total_timesteps": ("num_steps", "train_steps"),
    "timesteps": ("num_steps", "train_steps"),
    "total_steps": ("num_steps", "train_steps"),
    "n_steps": ("rollout_steps", "num_steps"),
    "num_steps": ("rollout_steps", "train_steps"),
    "batch_size": ("num_minibatches",),
    "n_epochs": ("num_epochs",),
    "update_epochs": ("num_epochs",),
    "n_envs": ("num_envs",),
    "lam": ("gae_lambda",),
    "lambda_": ("gae_lambda",),
    "clip_range": ("clip_ratio",),
    "clip_eps": ("clip_ratio",),
    "clip_coef": ("clip_ratio",),
    "ent_coef": ("entropy_coef", "initial_temperature"),
    "entropy_coefficient": ("entropy_coef",),
    "vf_coef": ("value_coef",),
    "target_entropy": ("target_entropy_ratio",),
    "fill_buffer": ("learning_starts",),
    "train_freq": ("updates_per_step",),
    "train_frequency": ("updates_per_step",),
    "gradient_steps": ("updates_per_step",),
    "target_network_frequency": ("target_update_rate",),
    "target_update_interval": ("target_update_rate",),
    "replay_buffer_size": ("buffer_size",),
    "memory_size": ("buffer_size",),
    "epsilon": ("epsilon_start",),
    "eps_start": ("epsilon_start",),
    "start_e": ("epsilon_start",),
    "exploration_initial_eps": ("epsilon_start",),
    "eps_end": ("epsilon_end",),
    "end_e": ("epsilon_end",),
    "exploration_final_eps": ("epsilon_end",),
    "exploration_fraction": ("epsilon_steps",),
    "policy_frequency": ("policy_delay",),
    "target_policy_noise": ("target_noise",),
    "policy_noise": ("target_noise",),
    "noise_clip": ("target_noise_clip",),
    "action_noise": ("exploration_noise",),
    "policy_kwargs": ("hidden_sizes", "network"),
    "agent_kwargs": ("hidden_sizes", "network"),
    "net_arch": ("hidden_sizes",),
    "hidden_layer_sizes": ("hidden_sizes",),
    "hidden_dims": ("hidden_sizes",),
    "layers": ("hidden_sizes",),
    "activation_fn": ("activation",),
    "policy": ("network",),
    "seed": ("key",),
    "rng": ("key",),
    "rng_key": ("key",),
    "env": ("task",),
    "env_name": ("task",),
    "env_id": ("task",),
    "env_params": ("params",),
    "model": ("policy", "agent"),
    "n_eval_episodes": ("num_episodes",),
    "n_episodes": ("num_episodes",),
    "episodes": ("num_episodes",),
    "num_seeds": ("num_agents",),
    "n_seeds": ("num_agents",),
    "n_agents": ("num_agents",),
    "eval_freq": ("log_every", "validation_every"),
    "log_interval": ("log_every",),
    "callback": ("on_progress", "on_generation"),
    "verbose": ("progress",),
    "progress_bar": ("progress",),
    "popsize": ("population_size",),
    "pop_size": ("population_size",),
    "sigma": ("std",),
    "num_generations": ("max_generations",),
    "generations": ("max_generations",),
    "max_episode_steps": ("max_steps", "time_limit"),
    "max_steps_in_episode": ("max_steps",),
    "horizon": ("max_steps",),
    "data": ("log",),
    "dataset": ("log",),
    "transitions": ("log",),
    "observations": ("obs",),
    "next_observations": ("next_obs",),
    "actions": ("action",),
    "rewards": ("reward",),
    "terminations": ("terminated",),
    "truncations": ("truncated",),
    "done": ("terminated",),
    "dones": ("terminated",),
    "num_timesteps": ("num_transitions", "num_steps"),
    "min": ("low",),
    "max": ("high",),
    "lower": ("low",),
    "upper": ("high",),
}
_NOTES = {
    "polyak": "which is 1 - polyak",
    "batch_size": "so many parts of a rollout, where batch_size counts samples",
    "exploration_fraction": "in environment steps, not a fraction",
    "train_freq": "which is gradient_steps / train_freq",
    "train_frequency": "which is 1 / train_frequency",
    "target_network_frequency": "a rate at every update, not an interval",
    "target_update_interval": "a rate at every update, not an interval",
    "policy_kwargs": "a tuple",
}
# What to do instead, where a name belongs to another function: by itself and by an
# argument that the one at hand has.
_ELSEWHERE = {
    (name, "log"): f"read it first, log = envs.read_transitions(log, {name}=...)"
    for name in ("columns", "observation_space", "max_bytes")
}
_PLAIN = (bool, int, float, str, tuple, list)
_AGENTS = (
    "discount",
    "learning_rate",
    "target_update_rate",
    "learning_starts",
    "updates_per_step",
    "batch_size",
    "buffer_size",
    "hidden_sizes",
    "activation",
    "epsilon_start",
    "epsilon_end",
    "epsilon_steps",
)


def hint(name: str, known: Iterable[str]) -> str:
    """Which argument was meant, as the end of a message; "" if nothing is like it.

    Args:
      name: One that does not exist.
      known: Those that do.
    """
    known = list(known)
    meant = next((n for n in _MEANT.get(name, ()) if n in known), None)
    if meant is not None:
        note = f" ({_NOTES[name]})" if name in _NOTES else ""
        return f"; did you mean {meant!r}{note}?"
    elsewhere = next(
        (_ELSEWHERE[name, n] for n in known if (name, n) in _ELSEWHERE), ""
    )
    if elsewhere:
        return f"; {elsewhere}"
    of_agents = next((n for n in (name, *_MEANT.get(name, ())) if n in _AGENTS), None)
    if "agent" in known and of_agents is not None:
        return f"; it belongs to the agent: agent=jaxrl_se.DDQN({of_agents}=...), say"
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def explain_keywords(namespace: dict[str, Any], names: Iterable[str]) -> None:
    """Lets public classes and functions tell which argument was meant.

    Constructors are wrapped in place, functions in the namespace alone. Those that take
    any keyword are left as they are.

    Args:
      namespace: Of a package, its `globals()`.
      names: What is public in it.
    """
    for name in names:
        public = namespace[name]
        if inspect.isclass(public):
            is_plain = not issubclass(public, BaseException)
            if is_plain and inspect.isfunction(vars(public).get("__init__")):
                explained = _explained(public.__init__, name, _rules(public))
                setattr(public, "__init__", explained)  # noqa: B010
        elif inspect.isfunction(public):
            namespace[name] = _explained(public, name)


def _rules(public: type) -> dict[str, Any]:
    """The rules of a pytree's fields; other dataclasses look at theirs themselves."""
    is_pytree = "_flax_dataclass" in vars(public)
    return values.rules(public) if is_pytree else {}


def _check_plain(
    name: str, rules: Mapping[str, Any], num_fields: int, kwargs: Mapping[str, Any]
) -> None:
    """Raises ValueError for what a user writes down and no rule allows.

    Arrays are left to whoever computes with them, as they may be traced; and so are
    calls with all fields, as those of `replace` and of transformations are, where
    leaves may be anything.
    """
    if len(kwargs) >= num_fields:
        return
    for key, value in kwargs.items():
        if key in rules and isinstance(value, _PLAIN):
            rules[key].check(f"{name}.{key}", value)


def _explained(
    function: Callable[..., Any], name: str, rules: Mapping[str, Any] | None = None
) -> Any:
    if hasattr(function, "__explained__"):
        return function
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = frozenset(p.name for p in parameters if p.kind in kinds)
    rules = rules or {}
    shown = [p.name for p in parameters if p.name in known and p.name != "self"]

    @functools.wraps(function)
    def explained(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= known:
            unknown = next(key for key in kwargs if key not in known)
            raise TypeError(
                f"{name}() got an unexpected keyword argument {unknown!r}"
                f"{hint(unknown, shown)} (it takes {', '.join(shown) or 'none'})"
            )
        _check_plain(name, rules, len(known) - 1, kwargs)
        return function(*args, **kwargs)

    setattr(explained, "__explained__", True)  # noqa: B010
    return explained

"""What an agent is: an algorithm with its hyperparameters, as pure functions.

The loop stands outside (`jaxrl_se.loop`, `jaxrl_se.rounds`), so whatever follows this
protocol is trained in chunks, resumed, evolved for, tested along the way and run from
Python step by step.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs import values


@struct.dataclass
class Transition:
    """One step of each of an agent's `N` environments.

    Attributes:
      obs: `[N, ...]`, what the agent acted on, as the environment gave it.
      action: `[N, ...]`, what `act` wanted to be kept of its actions; a pytree where it
        kept more than that, such as what it remembers.
      reward: float32 `[N]`.
      next_obs: `[N, ...]`, where the actions led to, before any reset.
      bootstrap_weight: float32 `[N]`, the weight of the value of `next_obs` in a
        target: 0 where the task ended the episode, 1 elsewhere, also at a time limit;
        `info["discount"]` where the environment says what it is.
      done: bool `[N]`, whether the episode ended, by the task or by a time limit.
    """

    obs: jax.Array
    action: Any
    reward: jax.Array
    next_obs: jax.Array
    bootstrap_weight: jax.Array
    done: jax.Array


def only(tree: Any) -> Any:
    """What arrays `[1, ...]` hold, for agents of one environment."""
    return jax.tree.map(lambda x: jnp.reshape(x, x.shape[1:]), tree)


def alone(tree: Any) -> Any:
    """Arrays `[1, ...]` of arrays `[...]`: the inverse of `only`."""
    return jax.tree.map(lambda x: jnp.reshape(x, (1, *jnp.shape(x))), tree)


AGENT = values.Like(
    "an agent, such as jaxrl_se.PPO()",
    ("num_envs", "rollout_steps", "check", "start", "act", "update", "policy"),
)


def check_agent(agent: Any, spaces: Spaces, name: str = "agent") -> None:
    """Compares an agent with its fields' rules and with a task, before it is traced.

    Args:
      agent: What a user gave.
      spaces: The task's.
      name: The argument's name, for the message.

    Raises:
      TypeError: It is no agent, or the class of one.
      ValueError: A hyperparameter is out of its range, or the agent cannot learn in
        these spaces.
    """
    AGENT.check(name, agent)
    kind = type(agent)
    is_itself = getattr(kind, "prepare", None) is Agent.prepare  # and none is drawn
    for method in ("start", "act", "policy_weights", "policy"):
        if is_itself and getattr(kind, method) is getattr(Agent, method):
            raise TypeError(
                f"{name} must define {method}, which {kind.__name__} does not (see "
                "jaxrl_se.Agent)"
            )
    if jax.tree_util.all_leaves([agent]):
        raise TypeError(
            f"{name} must be a flax.struct dataclass, so that its numbers are traced, "
            f"got the plain class {kind.__name__}"
        )
    values.check(agent)
    agent.check(spaces)


def acted(agent: Any, result: Any, num_envs: int) -> tuple[jax.Array, Any]:
    """What `act` gave, looked at while it is traced.

    Raises:
      TypeError: It is no pair of actions `[num_envs, ...]` and of what is kept.
    """
    name = f"agent.act: {type(agent).__name__}'s"
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"{name} result must be a pair, actions and what is kept of them, got "
            f"{type(result).__name__}"
        )
    shape = jnp.shape(result[0])
    if shape[:1] != (num_envs,):
        raise TypeError(
            f"{name} actions must have the shape [{num_envs}, ...], one for each "
            f"environment, got {list(shape)}"
        )
    return result


def same_state(agent: Any, method: str, before: Any, after: Any) -> Any:
    """The state that a method gave, looked at while it is traced.

    Raises:
      TypeError: Its structure, a shape or a dtype is not what it was before.
    """
    name = f"agent.{method}: {type(agent).__name__}'s state"
    old, tree = jax.tree_util.tree_flatten_with_path(before)
    new, now = jax.tree.flatten(after)
    if tree != now:
        raise TypeError(f"{name} must keep its structure, {tree}, got {now}")
    for (path, x), y in zip(old, new, strict=True):
        was, is_now = jax.typeof(x), jax.typeof(y)
        if (was.shape, was.dtype) != (is_now.shape, is_now.dtype):
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} must stay {was.dtype}"
                f"{list(was.shape)}, got {is_now.dtype}{list(is_now.shape)}"
            )
    return after


class Agent(Protocol):
    """An algorithm; implementations are frozen `flax.struct` dataclasses.

    Fields are hyperparameters: numbers are traced, so that one compilation serves all
    values, and what fixes a shape is static (`struct.field(pytree_node=False)`). All
    that training changes is in a state of the agent's own, any pytree. Training is

        state = agent.start(spaces, key, num_steps=..., env=env, params=params)
        repeat:  # a round
            draw `for_act` and `for_update` (ahead, for many rounds at once)
            rollout_steps times:
                action, kept = agent.act(spaces, state, obs, for_act[t])
                step all environments
                state = agent.observe(spaces, state, transition)
            state = agent.update(spaces, state, for_update)

    Every method is pure, and fit for `jax.jit` (`spaces` is static) and `jax.vmap`. A
    class that names this one as its base inherits what has a default here: one
    environment, an update after each step, a key per action and per update, nothing
    that is stored or learned, no metrics. `tests/jaxrl_se/test_own_agent.py` is a whole
    agent of one file.

    Attributes:
      num_envs: Static; environments that are stepped at once, `N`.
      rollout_steps: Static; steps of each environment per update, `T`; 0 for an agent
        that takes no step.
    """

    num_envs: int = 1
    rollout_steps: int = 1

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        del spaces

    def prepare(self, key: jax.Array) -> tuple[Any, jax.Array]:
        """The agent that a training is of, and the training's key.

        Itself, unless something about it is drawn for each training (`Varied`).
        """
        return self, key

    def start(
        self,
        spaces: Spaces,
        key: jax.Array,
        *,
        num_steps: int,
        env: Any = None,
        params: Any = None,
    ) -> Any:
        """The state before the first step.

        Args:
          spaces: Static; the environment's spaces.
          key: A PRNG key.
          num_steps: Environment steps of the whole training, over all environments.
          env: The environment, for an agent that reads it; None outside JAX.
          params: Its params, likewise.
        """
        raise NotImplementedError

    def draw(
        self, spaces: Spaces, key_act: jax.Array, key_update: jax.Array, num_rounds: int
    ) -> tuple[Any, Any]:
        """All that is random about the agent in the next rounds.

        It is drawn ahead because one large call is cheaper than many small ones, and
        because the members of a group then share it.

        Returns:
          What `act` takes, a pytree with leading axes `[num_rounds, rollout_steps]`,
          and what `update` takes, with a leading axis `[num_rounds]`.
        """
        del spaces
        shape = (num_rounds, self.rollout_steps)
        keys = jax.random.split(key_act, shape), jax.random.split(key_update, shape[0])
        return keys

    def act(
        self, spaces: Spaces, state: Any, obs: jax.Array, draw: Any
    ) -> tuple[jax.Array, Any]:
        """Explores.

        Args:
          spaces: Static; the environment's spaces.
          state: The agent's state.
          obs: `[N, ...]`.
          draw: Part of `draw`'s first result.

        Returns:
          Actions `[N, ...]` for the environments, and what the agent wants to find in
          `Transition.action`, `[N, ...]`.
        """
        raise NotImplementedError

    def observe(self, spaces: Spaces, state: Any, transition: Transition) -> Any:
        """The state after a step of all environments: it counts and stores."""
        del spaces, transition
        return state

    def update(self, spaces: Spaces, state: Any, draw: Any) -> Any:
        """The state after learning, at the end of a round.

        An agent that does not learn from every round says so by a `jax.lax.cond`.
        """
        del spaces, draw
        return state

    def policy_weights(self, spaces: Spaces, state: Any) -> Any:
        """The part of the state that the test policy needs, a pytree."""
        raise NotImplementedError

    def policy(self, spaces: Spaces, weights: Any) -> Any:
        """The test policy, a pytree callable (see `jaxrl_se.policies`)."""
        raise NotImplementedError

    def metrics(self, spaces: Spaces, state: Any) -> dict[str, jax.Array]:
        """Scalars about the state that are worth looking at, by name."""
        del spaces, state
        return {}

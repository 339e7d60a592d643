"""An environment from a policy: agents that train in it come to act as the policy does.

An evolution looks for a reward whose best response does well. Where somebody has a good
policy already, no search is needed: the reward network is fitted so that its best
response takes the policy's actions in the states that the policy meets, and in those
that it meets after actions of chance. That is behaviour cloning with an environment in
between, from which agents of any kind learn.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from envs.play import RecurrentPolicy
from envs.spaces import Spaces
from envs.task import open_named
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, MANY, Function, Like, Number, as_key, setting
from jaxrl_se.config import SyntheticConfig
from jaxrl_se.fitting import fitted
from jaxrl_se.networks import MLP
from jaxrl_se.obs_ranges import to_unit
from jaxrl_se.policies import HoldsPolicy, RandomPolicy
from jaxrl_se.probing import range_of
from jaxrl_se.synthetic_env import SyntheticEnv, SyntheticParams, bounded

_POLICY = Function("(obs, key) -> action, such as train(...).policy")
_SHARPNESS = 3.0  # Logits per unit of reward, so that rewards of about 1 tell actions.
_BEYOND = 0.05  # How far past a bound an action's reward may peak, in units of [-1, 1].


_SHAPE = SyntheticConfig(
    hidden_sizes=(32,),
    activation="tanh",
    initial_states="normal",
    reward_bound=2.0,
    obs_range=None,
)


@dataclasses.dataclass(frozen=True)
class Cloning:
    """How a reward is fitted to a policy.

    Attributes:
      proxy: The environment's shape; one step, starts of a normal distribution and a
        reward with an output per action. Its ranges of observations are those that are
        met.
      num_rows: Steps in the task.
      noise: Share of them in which the action is drawn by chance instead, so that
        states next to the policy's own are met. A policy of plain Python plays
        without.
      num_steps: Gradient steps, of 256 rows each.
    """

    proxy: SyntheticConfig = _SHAPE
    num_rows: int = setting(20_000, MANY)
    noise: float = setting(0.2, Number(at_least=0, below=1))
    num_steps: int = setting(6000, COUNT)

    def __post_init__(self):
        values.check(self)
        proxy = self.proxy
        Like("a SyntheticConfig", kinds=(SyntheticConfig,)).check(
            "Cloning.proxy", proxy
        )
        if (
            proxy.variant != "one-step"
            or proxy.initial_states != "normal"
            or not proxy.reward_heads
        ):
            raise ValueError(
                "proxy must have one step, normal starts and reward_heads, got "
                f"{proxy.variant!r}, {proxy.initial_states!r}, {proxy.reward_heads}"
            )


def from_policy(
    policy: Any, task: Any, key: int | jax.Array = 0, config: Cloning | None = None
) -> tuple[SyntheticEnv, SyntheticParams]:
    """A synthetic environment in which agents learn to act as a policy does.

    Args:
      policy: `(obs, key) -> action`: what `train(...).policy` or `load_agent` gave, a
        callable pytree, or a function. Without a key it must be deterministic, as those
        of `train` are.
      task: Whatever `envs.open_task` takes, with vectors as observations.
      key: A seed or a PRNG key.
      config: How; `Cloning()` by default.

    Returns:
      A gymnax pair `(env, params)` to train in, save and evolve on (`evolve(...,
      start=params.weights)`). `config.num_rows` steps of the task were taken for it.

    Raises:
      ValueError: Observations are no vectors, or the policy's actions not the task's.
      TypeError: The policy is none, or remembers.

    Example:
      >>> policy = lambda obs, key=None: (obs[2] + 0.3 * obs[3] > 0).astype(int)
      >>> env, params = from_policy(policy, "CartPole-v1", 0, Cloning(num_rows=2000))
      >>> env.name
      'Synthetic-one-step'
    """
    Like("a Cloning", kinds=(Cloning,), optional=True).check("config", config)
    config = config or Cloning()
    opened, policy = opened_with(policy, task)
    key_play, key_init, key_fit = jax.random.split(as_key(key), 3)
    rows, action = demonstrations(
        policy, opened, key_play, config.num_rows, config.noise
    )
    obs = np.asarray(rows.obs, np.float32).reshape(len(rows), -1)
    check_finite(opened, obs, action)
    ranges = range_of(obs)
    env = dataclasses.replace(config.proxy, obs_range=ranges).build(opened.spaces)
    obs_range = np.asarray(ranges, np.float32)
    params = dataclasses.replace(env.default_params, obs_range=obs_range)
    unit = to_unit(params.obs_range, jnp.asarray(obs))
    network = env.networks()["reward"]
    start = network.init(key_init)
    weights = _cloned(network, opened.spaces, config, start, unit, action, key_fit)
    weights = params.weights | {"reward": weights}
    return env, dataclasses.replace(params, weights=weights)


@struct.dataclass
class _Noisy:
    """A policy whose actions are drawn by chance now and then."""

    policy: Any
    share: jax.Array | float
    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs, key):
        key_own, key_coin, key_random = jax.random.split(key, 3)
        action = jnp.asarray(self.policy(obs, key_own))
        drawn = jnp.asarray(RandomPolicy(self.spaces)(obs, key_random))
        if drawn.size != action.size:
            return action  # The task says what is wrong with it.
        drawn = drawn.astype(action.dtype).reshape(action.shape)
        return jnp.where(jax.random.uniform(key_coin) < self.share, drawn, action)


def opened_with(policy: Any, task: Any) -> tuple[Any, Any]:
    """The opened task and the policy that shows what to do in it.

    Raises:
      ValueError: The task's observations are no vectors.
      TypeError: The policy is none, or remembers.
    """
    policy = policy.policy if isinstance(policy, HoldsPolicy) else policy
    if isinstance(policy, RecurrentPolicy):
        raise TypeError(
            "policy must act on single observations, since an environment of one step "
            "has no memory to teach, got one that remembers"
        )
    _POLICY.check("policy", policy)
    opened = open_named("task", task)
    if not opened.spaces.are_vectors:
        raise ValueError(
            f"task {opened.name!r}: observations must be vectors, got shape "
            f"{opened.spaces.obs_shape}; see envs.flat_observations"
        )
    return opened, policy


def demonstrations(
    policy: Any, task: Any, key: jax.Array, num_rows: int, noise: float
) -> tuple[Any, np.ndarray]:
    """Rows that a policy plays, some of its actions drawn by chance instead.

    Args:
      policy: `(obs, key) -> action`; one of plain Python plays without noise.
      task: An opened task.
      key: A PRNG key.
      num_rows: Steps.
      noise: Share of actions drawn by chance.

    Returns:
      Transitions, and what the policy itself does at each, `[N]` or `[N, A]`.
    """
    if not _is_traceable(policy, task.spaces):
        rows = task.collect(num_rows, key, policy, num_axes=0)
        return rows, np.asarray(rows.action)
    _check_without_key(policy, task.spaces)
    tree = policy if _is_pytree(policy) else jax.tree_util.Partial(policy)
    noisy = _Noisy(tree, jnp.float32(noise), task.spaces)
    rows = task.collect(num_rows, key, noisy, num_axes=0)
    return rows, np.asarray(_asked(tree, rows.obs))


def check_finite(task: Any, obs: np.ndarray, action: np.ndarray) -> None:
    """Raises ValueError for NaN or infinity in what was seen or done."""
    if not (np.isfinite(obs).all() and np.isfinite(action).all()):
        raise ValueError(
            f"policy must give finite actions in task {task.name!r}, and the task "
            "finite observations, got NaN or infinity"
        )


def _is_pytree(policy: Any) -> bool:
    return bool(jax.tree.leaves(policy)) and not any(
        leaf is policy for leaf in jax.tree.leaves(policy)
    )


def _is_traceable(policy: Any, spaces: Spaces) -> bool:
    """Whether JAX can trace it; plain Python outside JAX is called as it is."""
    obs = jax.ShapeDtypeStruct((spaces.obs_size,), jnp.float32)
    try:
        jax.eval_shape(lambda obs, key: policy(obs, key), obs, jax.random.key(0))
    except Exception:
        return False
    return True


def _check_without_key(policy: Any, spaces: Spaces) -> None:
    """Raises TypeError for a policy that needs a key to act."""
    obs = jax.ShapeDtypeStruct((spaces.obs_size,), jnp.float32)
    try:
        jax.eval_shape(lambda obs: policy(obs, None), obs)
    except Exception as error:
        raise TypeError(
            "policy must also act without a key, deterministically, as policy(obs, "
            f"None), but it raised {type(error).__name__}"
        ) from error


@jax.jit
def _asked(policy: Any, obs: jax.Array) -> jax.Array:
    return jax.vmap(lambda one: policy(one, None))(obs)


def _cloned(
    network: MLP,
    spaces: Spaces,
    config: Cloning,
    weights: Any,
    obs: jax.Array,
    action: np.ndarray,
    key: jax.Array,
) -> Any:
    """Weights whose best response takes the actions."""
    bound = config.proxy.reward_bound
    if spaces.num_actions is None:
        rows = jnp.asarray(action, jnp.float32).reshape(len(obs), -1)
        wanted = jax.vmap(spaces.normalized_action)(rows)
    else:
        wanted = jnp.asarray(action, jnp.int32).reshape(-1)

    def loss(weights, rows):
        obs, wanted = rows
        outputs = bounded(network(weights, obs), bound)
        if spaces.num_actions is not None:
            return jnp.mean(
                optax.softmax_cross_entropy_with_integer_labels(
                    _SHARPNESS * outputs, wanted
                )
            )
        end = 1 + _BEYOND
        error = jnp.square(jnp.clip(outputs, -end, end) - wanted)
        return jnp.mean(error + 1e-3 * jnp.maximum(jnp.abs(outputs) - end, 0.0))

    return fitted(loss, weights, (obs, wanted), config.num_steps, key)

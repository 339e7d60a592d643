"""The contenders of `benchmarks.throughput`: ours, textbook JAX, and rejax's DQN.

The baselines train one agent from one key, as a user of JAX would write it or find it,
and `jax.vmap` makes many of them. Hyperparameters are those of our `DDQN`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from envs import LegacyEnv
from jaxrl_runs.devices import map_agents, population_mesh
from jaxrl_se import DDQN, EvolutionConfig, Spaces
from jaxrl_se.training import train_group, train_once

AGENT = DDQN(hidden_sizes=(64,), batch_size=32, max_grad_norm=None)
SPACES = Spaces(obs_size=4, num_actions=2)
GROUP, INDEPENDENT, PLAIN, REJAX = "group", "independent", "plain_vmap", "rejax"
LABELS = {
    GROUP: "ours, candidates of one generation",
    INDEPENDENT: "ours, independent agents",
    PLAIN: "plain vmap of one agent",
    REJAX: "rejax DQN",
}

REJAX_INSTALLED = importlib.util.find_spec("rejax") is not None


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to train `P` agents, each in an environment of its own.

    Attributes:
      train: `(keys [P], environment weights [P]) -> network weights [P]`.
      values: `(network weights, obs [N, obs_size]) -> Q-values [N, num_actions]` of one
        agent.
    """

    train: Callable[[jax.Array, Any], Any]
    values: Callable[[Any, jax.Array], jax.Array]


def contenders(env: Any, params: Any, num_steps: int) -> dict[str, Contender]:
    """All that can be compared on this machine, by name."""
    one_device = population_mesh(jax.local_devices()[:1])
    network = AGENT.q_network(SPACES)
    flax_network: Any = plain_network(AGENT, env, params)

    def independent(keys, env_weights):
        def one(agent):
            key, weights = agent
            own = params.replace(weights=weights)
            trained = train_once(AGENT, env, own, key, num_steps=num_steps)
            return jax.tree.map(lambda leaf: leaf[-1], trained.weights)

        return map_agents(one, (keys, env_weights), mesh=one_device)

    def vmapped(train):
        def one(key, weights):
            own = params.replace(weights=weights)
            return train(AGENT, env, own, key, num_steps)

        return jax.vmap(one)

    found = {
        GROUP: Contender(
            lambda keys, weights: train_groups(
                env, params, weights, keys[0], num_steps
            ),
            network,
        ),
        INDEPENDENT: Contender(independent, network),
        PLAIN: Contender(vmapped(train_plain), flax_network.apply),
    }
    if REJAX_INSTALLED:
        agent = rejax_agent(AGENT, env, params, num_steps).agent
        found[REJAX] = Contender(vmapped(train_rejax), agent.apply)
    return found


def train_groups(
    env: Any, params: Any, env_weights: Any, key: jax.Array, num_steps: int
) -> Any:
    """Trains `[P]` candidates as a generation of `jaxrl_se.evolve` does on one core.

    They share one key; as many as `EvolutionConfig` says are vectorised.
    """
    num_agents = jax.tree.leaves(env_weights)[0].shape[0]
    size = EvolutionConfig().group_of(num_agents, accelerator=False)

    def one_group(weights):
        return train_group(
            AGENT,
            env,
            params.replace(weights=weights),
            env.population_axes(params),
            key,
            num_members=size,
            num_steps=num_steps,
        )

    groups = jax.tree.map(
        lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), env_weights
    )
    trained = jax.lax.map(one_group, groups)
    return jax.tree.map(lambda leaf: leaf.reshape(num_agents, *leaf.shape[2:]), trained)


class QNetwork(nn.Module):
    """Values of all actions, `[..., num_actions]`, by one hidden layer and ReLU."""

    hidden_size: int
    num_actions: int

    @nn.compact
    def __call__(self, obs):
        """Applies the network to observations `[..., obs_size]`."""
        return nn.Dense(self.num_actions)(nn.relu(nn.Dense(self.hidden_size)(obs)))


def plain_network(agent: DDQN, env: Any, params: Any) -> QNetwork:
    """The network of `train_plain`."""
    return QNetwork(agent.hidden_sizes[0], env.action_space(params).n)


def train_plain(
    agent: DDQN, env: Any, params: Any, key: jax.Array, num_steps: int
) -> Any:
    """Single-agent double DQN as a JAX tutorial has it; returns flax variables.

    Keys are split at every step, the buffer is a dict of arrays, Q(s, a) is
    `take_along_axis`. The warm-up is a `lax.cond` on a counter that all members of a
    `vmap` share, so that it stays a branch.
    """
    network: Any = plain_network(agent, env, params)
    optimizer = optax.adam(agent.learning_rate)
    epsilon = optax.linear_schedule(
        agent.epsilon_start, agent.epsilon_end, int(agent.epsilon_steps)
    )
    capacity = min(agent.buffer_size, num_steps)
    key, key_init, key_reset = jax.random.split(key, 3)
    obs, env_state = env.reset(key_reset, params)
    weights = network.init(key_init, obs)
    buffer = {
        "obs": jnp.zeros((capacity, *obs.shape)),
        "action": jnp.zeros(capacity, jnp.int32),
        "reward": jnp.zeros(capacity),
        "next_obs": jnp.zeros((capacity, *obs.shape)),
        "terminated": jnp.zeros(capacity),
    }

    def loss_fn(weights, target_weights, batch):
        q = network.apply(weights, batch["obs"])
        q = jnp.take_along_axis(q, batch["action"][:, None], axis=1)[:, 0]
        best = jnp.argmax(network.apply(weights, batch["next_obs"]), axis=1)
        next_q = network.apply(target_weights, batch["next_obs"])
        next_q = jnp.take_along_axis(next_q, best[:, None], axis=1)[:, 0]
        target = batch["reward"] + agent.discount * (1 - batch["terminated"]) * next_q
        return jnp.mean((q - jax.lax.stop_gradient(target)) ** 2)

    def update(learner, batch):
        weights, target_weights, opt_state = learner
        grads = jax.grad(loss_fn)(weights, target_weights, batch)
        updates, opt_state = optimizer.update(grads, opt_state)
        weights = optax.apply_updates(weights, updates)
        target_weights = optax.incremental_update(
            weights, target_weights, agent.target_update_rate
        )
        return weights, target_weights, opt_state

    def one_step(carry, t):
        key, learner, buffer, obs, env_state = carry
        key, key_explore, key_action, key_step, key_batch = jax.random.split(key, 5)
        greedy = jnp.argmax(network.apply(learner[0], obs))
        explore = jax.random.uniform(key_explore) < epsilon(t)
        random_action = env.action_space(params).sample(key_action)
        action = jnp.where(explore, random_action, greedy)
        next_obs, env_state, reward, terminated, _, info = env.step(
            key_step, env_state, action, params
        )
        transition = {
            "obs": obs,
            "action": action,
            "reward": reward,
            "next_obs": info["final_observation"],
            "terminated": terminated,
        }
        buffer = jax.tree.map(
            lambda rows, row: rows.at[t % capacity].set(row), buffer, transition
        )
        num_stored = jnp.minimum(t + 1, capacity)
        rows = jax.random.randint(key_batch, (agent.batch_size,), 0, num_stored)
        batch = jax.tree.map(lambda leaf: leaf[rows], buffer)
        learner = jax.lax.cond(
            t >= agent.learning_starts,
            update,
            lambda learner, _: learner,
            learner,
            batch,
        )
        return (key, learner, buffer, next_obs, env_state), None

    learner = weights, weights, optimizer.init(weights)
    carry = key, learner, buffer, obs, env_state
    (_, learner, *_), _ = jax.lax.scan(one_step, carry, jnp.arange(num_steps))
    return learner[0]


def rejax_agent(agent: DDQN, env: Any, params: Any, num_steps: int) -> Any:
    """DQN of rejax with the settings of `agent` and no evaluation: only training.

    Same hidden layer (its `create` only makes two), minibatch, buffer, warm-up, one
    environment and one update per step, target averaging at every update.
    """
    import rejax
    from rejax.networks import DiscreteQNetwork, EpsilonGreedyPolicy

    algorithm = rejax.DQN.create(
        env=LegacyEnv(env),
        env_params=params,
        num_envs=1,
        num_epochs=1,
        total_timesteps=num_steps,
        eval_freq=num_steps,
        skip_initial_evaluation=True,
        buffer_size=min(agent.buffer_size, num_steps),
        # It updates where more than `fill_buffer` steps are done before the new one.
        fill_buffer=agent.learning_starts - 1,
        batch_size=agent.batch_size,
        learning_rate=agent.learning_rate,
        gamma=agent.discount,
        eps_start=agent.epsilon_start,
        eps_end=agent.epsilon_end,
        exploration_fraction=agent.epsilon_steps / num_steps,
        target_update_freq=1,
        polyak=1 - agent.target_update_rate,
        ddqn=agent.double,
    )
    make_policy: Any = EpsilonGreedyPolicy
    network = make_policy(DiscreteQNetwork)(
        hidden_layer_sizes=agent.hidden_sizes,
        action_dim=env.action_space(params).n,
        activation=nn.relu,
    )
    return algorithm.replace(agent=network, eval_callback=lambda *_: ())


def train_rejax(
    agent: DDQN, env: Any, params: Any, key: jax.Array, num_steps: int
) -> Any:
    """Trains rejax's DQN; returns flax variables."""
    train_state, _ = rejax_agent(agent, env, params, num_steps).train(key)
    return train_state.q_ts.params

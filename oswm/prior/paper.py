"""The prior of the paper: random networks, momentum pairs, and their mixture.

Follows "One-shot World Models Using a Transformer Trained on a Synthetic Prior"
(arXiv 2409.14084) and the code that its authors published, oddities included: hidden
velocities, raw action indices as inputs, statistics over context and queries together,
episodes of 51 steps that never terminate. Our own prior is ``oswm/prior/default.py``.

The layout of a state is fixed, since a dataset's columns are permuted in the end:
network dimensions fill its 11 slots from the front, momentum pairs from the back.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.prior.momentum import (
    Momentum,
    init_momentum,
    observe_momentum,
    reset_momentum,
    step_momentum,
)
from oswm.prior.random_networks import (
    RandomNetwork,
    apply_network,
    make_network,
    num_draws,
)

NUM_STATES = 11
NUM_ACTIONS = 3
NUM_FEATURES = NUM_STATES + NUM_ACTIONS
MAX_PAIRS = NUM_STATES // 2
EPISODE_STEPS = 51
STATE_SCALE = 18.147661409701062
STATE_OFFSET = 3.2802608490289904
_MAX_CHOICES = 4


@struct.dataclass
class PaperTask:
    """One synthetic Markov decision process.

    Attributes:
        networks: Of the 11 slots; only those in front of ``num_networks`` are in use.
        pairs: The five pairs; pair k lies in slots 9 - 2k and 10 - 2k.
        reward: Network on (state, next state, effect of the action), 25 inputs.
        num_networks: Number of network dimensions.
        num_pairs: Number of momentum pairs.
        constant_reward: Whether the reward is always 1.
        is_discrete: Whether actions are indices.
        num_choices: Of discrete actions.
        choices: What each of them does, [4].
        action_dim: Number of action components.
        bound: Of continuous actions.
        reset_scale: Of the network dimensions' initial values, [11].
        reset_offset: Subtracted from their uniform draw.
    """

    networks: RandomNetwork
    pairs: Momentum
    reward: RandomNetwork
    num_networks: jax.Array
    num_pairs: jax.Array
    constant_reward: jax.Array
    is_discrete: jax.Array
    num_choices: jax.Array
    choices: jax.Array
    action_dim: jax.Array
    bound: jax.Array
    reset_scale: jax.Array
    reset_offset: jax.Array

    @property
    def is_network(self) -> jax.Array:
        """Slots that hold a network dimension, [11] bool."""
        return jnp.arange(NUM_STATES) < self.num_networks

    @property
    def is_used(self) -> jax.Array:
        """Slots in use, [11] bool."""
        return self.is_network | (
            jnp.arange(NUM_STATES) >= NUM_STATES - 2 * self.num_pairs
        )


def init_paper_task(key: jax.Array) -> PaperTask:
    """Draw a task."""
    keys = jax.random.split(key, 12)
    num_states = jax.random.randint(keys[0], (), 3, NUM_STATES + 1)
    num_pairs = jax.random.randint(keys[1], (), 0, num_states // 2 + 1)
    num_networks = num_states - 2 * num_pairs
    is_discrete = jax.random.bernoulli(keys[2])
    action_dim = jnp.where(
        is_discrete, 1, jax.random.randint(keys[3], (), 1, NUM_ACTIONS + 1)
    )
    slots = jnp.arange(NUM_STATES)
    is_used = (slots < num_networks) | (slots >= NUM_STATES - 2 * num_pairs)
    is_action = jnp.arange(NUM_ACTIONS) < action_dim
    inputs = jnp.concatenate([is_used, is_action]).astype(jnp.float32)
    reward_inputs = jnp.concatenate([is_used, is_used, is_action]).astype(jnp.float32)
    u = jax.random.uniform(keys[4], (NUM_STATES, num_draws(NUM_FEATURES)))
    networks = jax.vmap(make_network, (0, None))(u, inputs)
    u = jax.random.uniform(keys[6], (num_draws(NUM_STATES + NUM_FEATURES),))
    pairs = jax.vmap(init_momentum, (0, None, None))(
        jax.random.split(keys[5], MAX_PAIRS), action_dim, NUM_ACTIONS
    )
    return PaperTask(
        networks=networks,
        pairs=pairs,
        reward=make_network(u, reward_inputs),
        num_networks=num_networks,
        num_pairs=num_pairs,
        constant_reward=jax.random.bernoulli(keys[7]),
        is_discrete=is_discrete,
        num_choices=jax.random.randint(keys[8], (), 2, _MAX_CHOICES + 1),
        choices=jax.random.uniform(keys[9], (_MAX_CHOICES,), minval=-3.0, maxval=3.0),
        action_dim=action_dim,
        bound=jax.random.uniform(keys[10], minval=0.5, maxval=3.0),
        reset_scale=STATE_SCALE
        * jax.random.uniform(jax.random.fold_in(key, 0), (NUM_STATES,)),
        reset_offset=STATE_OFFSET * (jax.random.uniform(keys[11]) - 0.5),
    )


@struct.dataclass
class PaperState:
    """State of an episode: all 11 slots, and the latent pairs [5]."""

    obs: jax.Array
    position: jax.Array
    velocity: jax.Array


def reset_paper(key: jax.Array, task: PaperTask) -> PaperState:
    """Start an episode."""
    network_key, pair_key = jax.random.split(key)
    u = jax.random.uniform(network_key, (NUM_STATES,))
    values = (u - task.reset_offset) * task.reset_scale
    position, velocity = jax.vmap(reset_momentum)(
        jax.random.split(pair_key, MAX_PAIRS), task.pairs
    )
    return _observe(task, values, position, velocity)


def action_effect(task: PaperTask, action: jax.Array) -> jax.Array:
    """What an action [3] as it is stored (an index, or components) does, [3]."""
    chosen = jnp.where(jnp.arange(_MAX_CHOICES) == action[0], task.choices, 0).sum()
    discrete = jnp.zeros(NUM_ACTIONS).at[0].set(chosen)
    return jnp.where(task.is_discrete, discrete, action)


def step_paper(
    task: PaperTask, state: PaperState, action: jax.Array
) -> tuple[PaperState, jax.Array]:
    """Advance an episode by an action [3]; returns the state and the reward."""
    effect = action_effect(task, action)
    inputs = jnp.concatenate([state.obs, effect])
    values = jax.vmap(apply_network, (0, None))(task.networks, inputs)
    position, velocity = jax.vmap(step_momentum, (0, 0, 0, None))(
        task.pairs, state.position, state.velocity, effect
    )
    new = _observe(task, values, position, velocity)
    reward = apply_network(task.reward, jnp.concatenate([state.obs, new.obs, effect]))
    return new, jnp.where(task.constant_reward, 1.0, reward)


def _observe(task, values, position, velocity) -> PaperState:
    seen = jax.vmap(observe_momentum)(task.pairs, position, velocity)
    # The pairs from the back: slot 0 is free, then (position, velocity) of pair 4, ...
    from_pairs = jnp.stack(seen, -1)[::-1].reshape(-1)
    obs = jnp.where(task.is_network, values, jnp.pad(from_pairs, (1, 0)))
    return PaperState(jnp.where(task.is_used, obs, 0.0), position, velocity)


def sample_action(key: jax.Array, task: PaperTask) -> jax.Array:
    """Draw a uniform action as it is stored, [3]."""
    u = jax.random.uniform(key, (NUM_ACTIONS,))
    index = jnp.floor(u * task.num_choices)
    action = jnp.where(task.is_discrete, index, (2 * u - 1) * task.bound)
    return jnp.where(jnp.arange(NUM_ACTIONS) < task.action_dim, action, 0.0)


@struct.dataclass
class PaperRows:
    """Transitions of one task, in order of time; unused slots are 0.

    Attributes:
        obs: [L, 11].
        action: As it is stored, [L, 3].
        next_obs: [L, 11].
        reward: [L].
    """

    obs: jax.Array
    action: jax.Array
    next_obs: jax.Array
    reward: jax.Array


def rollout_paper(key: jax.Array, task: PaperTask, num_rows: int = 1001) -> PaperRows:
    """Roll a task out with uniform actions, episode by episode of 51 steps."""
    num_episodes = -(-num_rows // EPISODE_STEPS)
    reset_key, action_key = jax.random.split(key)
    starts = jax.vmap(reset_paper, (0, None))(
        jax.random.split(reset_key, num_episodes), task
    )
    u = jax.random.split(action_key, (EPISODE_STEPS, num_episodes))
    actions = jax.vmap(jax.vmap(sample_action, (0, None)), (0, None))(u, task)

    def step(states, action):
        new, reward = jax.vmap(step_paper, (None, 0, 0))(task, states, action)
        return new, PaperRows(states.obs, action, new.obs, reward)

    _, rows = jax.lax.scan(step, starts, actions)

    def in_time(x):
        return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])[:num_rows]

    return jax.tree.map(in_time, rows)


def draw_paper_rows(key: jax.Array, num_rows: int = 1001) -> PaperRows:
    """Draw a task and roll it out."""
    task_key, rollout_key = jax.random.split(key)
    return rollout_paper(rollout_key, init_paper_task(task_key), num_rows)


def draw_paper_dataset(
    key: jax.Array, num_rows: int = 1001
) -> tuple[jax.Array, jax.Array]:
    """Draw a dataset as the reference's transformer reads it.

    Columns are permuted (states among themselves, with the same permutation for the
    next states; actions among themselves) and standardised over all rows, rows are
    permuted. A constant column is 0.

    Returns:
        Inputs ``[L, 14]`` (state, action) and targets ``[L, 14]`` (next state, two
        zeros, reward).
    """
    rows_key, state_key, action_key, time_key = jax.random.split(key, 4)
    rows = draw_paper_rows(rows_key, num_rows)
    states = jax.random.permutation(state_key, NUM_STATES)
    actions = jax.random.permutation(action_key, NUM_ACTIONS)
    order = jax.random.permutation(time_key, num_rows)
    inputs = jnp.concatenate([rows.obs[:, states], rows.action[:, actions]], 1)
    unused = jnp.zeros((num_rows, NUM_ACTIONS - 1))
    targets = jnp.concatenate(
        [rows.next_obs[:, states], unused, rows.reward[:, None]], 1
    )
    return _standardise(inputs)[order], _standardise(targets)[order]


def draw_context_length(key: jax.Array) -> jax.Array:
    """Draw how many of the 1,001 rows are context: 500 to 999, mostly close to 999."""
    weights = (500.0 - jnp.arange(500)) ** -0.4
    return 500 + jax.random.choice(key, 500, p=weights / weights.sum())


def _standardise(x: jax.Array) -> jax.Array:
    mean, std = x.mean(0), x.std(0, ddof=1)
    is_constant = (x == x[:1]).all(0)
    return jnp.where(is_constant, 0.0, (x - mean) / jnp.where(is_constant, 1.0, std))

"""A new agent in one file, from the protocol alone: tabular expected SARSA."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
import jaxrl_se
from jaxrl_se.training import train_once

CLIFF = envs.make("Cliff")


@struct.dataclass
class State:
    values: jax.Array  # [S, A]
    last: Any  # the transition to learn from next


@struct.dataclass
class ExpectedSarsa(jaxrl_se.Agent):
    """Bootstraps from the mean value under its own epsilon-greedy policy."""

    learning_rate: float = 1.0
    discount: float = 0.8
    epsilon: float = 0.1

    def check(self, spaces):
        if spaces.num_states is None or spaces.num_actions is None:
            raise ValueError("task: ExpectedSarsa needs numbered states and actions")

    def start(self, spaces, key, *, num_steps, env=None, params=None):
        del key, num_steps, env, params
        states, actions = spaces.num_states, spaces.num_actions
        zero = jnp.zeros(1)
        nowhere = jnp.zeros((1, states))
        last = jaxrl_se.Transition(
            nowhere, jnp.zeros(1, int), zero, nowhere, zero, zero > 0
        )
        return State(jnp.zeros((states, actions)), last)

    def act(self, spaces, state, obs, draw):
        key_whether, key_which = jax.random.split(draw)
        random = jax.random.randint(key_which, (1,), 0, spaces.action_size)
        is_random = jax.random.uniform(key_whether) < self.epsilon
        action = jnp.where(is_random, random, jnp.argmax(obs @ state.values, axis=-1))
        return action, action

    def observe(self, spaces, state, transition):
        del spaces
        return state.replace(last=transition)

    def update(self, spaces, state, draw):
        del draw
        last, values = state.last, state.values
        next_values = last.next_obs[0] @ values
        expected = (1 - self.epsilon) * next_values.max()
        expected = expected + self.epsilon * next_values.mean()
        target = last.reward[0] + self.discount * last.bootstrap_weight[0] * expected
        where = jnp.outer(last.obs[0], jax.nn.one_hot(last.action[0], values.shape[1]))
        error = target - jnp.sum(where * values)
        return state.replace(values=values + self.learning_rate * error * where)

    def policy_weights(self, spaces, state):
        del spaces
        return state.values

    def policy(self, spaces, weights):
        del spaces
        return jax.tree_util.Partial(greedy, weights)

    def metrics(self, spaces, state):
        return {"best_value": state.values.max()}


def greedy(values, obs, key=None):
    return jnp.argmax(obs @ values)


def test_it_trains():
    """The safe path past the cliff: 12 to 16 steps down from hundreds."""
    result = jaxrl_se.train(ExpectedSarsa(), *CLIFF, 0, 3000, num_agents=4)
    returns = jax.vmap(
        lambda policy: jaxrl_se.evaluate(policy, *CLIFF, jax.random.key(1), 1).returns
    )(result.policy)
    assert (returns >= -20).all()


def test_it_is_advanced_in_pieces_and_in_groups():
    agent = ExpectedSarsa()
    state = jaxrl_se.start(agent, *CLIFF, 0, num_steps=300)
    for steps in (120, 180):
        state, metrics = jaxrl_se.advance(agent, *CLIFF, state, steps)
    assert int(metrics.steps) == 180 and metrics.agent["best_value"] >= 0
    key = jax.random.split(jax.random.key(0), 1)[0]  # as `train` splits its seed
    whole = train_once(agent, *CLIFF, key, num_steps=300)
    np.testing.assert_array_equal(whole.weights[0], state.agent.values)


@struct.dataclass
class Forgetful(ExpectedSarsa):
    """Updates, and gives nothing back."""

    def update(self, spaces, state, draw):
        return None


@struct.dataclass
class Rounded(ExpectedSarsa):
    """Changes the dtype of what it has learned."""

    def observe(self, spaces, state, transition):
        return state.replace(values=state.values.astype(jnp.float16))


@struct.dataclass
class Single(ExpectedSarsa):
    """Says what it does, and not what to keep of it."""

    def act(self, spaces, state, obs, draw):
        return jnp.zeros(1, jnp.int32)


@struct.dataclass
class Scalar(ExpectedSarsa):
    """Forgets the axis of environments."""

    def act(self, spaces, state, obs, draw):
        return jnp.int32(0), jnp.int32(0)


@struct.dataclass
class Unfinished(jaxrl_se.Agent):
    """Has no policy."""

    start, act = ExpectedSarsa.start, ExpectedSarsa.act
    policy_weights = ExpectedSarsa.policy_weights


class Plain(jaxrl_se.Agent):
    """Is no pytree."""

    start, act = ExpectedSarsa.start, ExpectedSarsa.act
    policy, policy_weights = ExpectedSarsa.policy, ExpectedSarsa.policy_weights


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Forgetful, "agent.update: Forgetful's state must keep its structure"),
        (Rounded, r"agent.observe: Rounded's state.values must stay float32\[48, 4\]"),
        (Single, "agent.act: Single's result must be a pair"),
        (Scalar, r"agent.act: Scalar's actions must have the shape \[1, ...\]"),
        (Unfinished, "agent must define policy, which Unfinished does not"),
        (Plain, "agent must be a flax.struct dataclass"),
    ],
)
def test_slips_of_an_author_are_named(kind, message):
    with pytest.raises(TypeError, match=message):
        jaxrl_se.train(kind(), *CLIFF, 0, 20)

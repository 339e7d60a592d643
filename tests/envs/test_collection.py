"""Transitions from either kind of task."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from random_walk import RandomWalk

import envs

NAMES = ("CartPole-v1", "MountainCar-v0", "Pendulum-v1")


def assert_chained(data):
    """Rows follow each other within an episode, and a new one starts elsewhere."""
    ends = (data.terminated | data.truncated)[:-1]
    follows = (data.next_obs[:-1] == data.obs[1:]).all(axis=1)
    np.testing.assert_array_equal(follows, ~ends)


@pytest.mark.parametrize("name", NAMES)
def test_both_kinds_of_task_give_the_same_kind_of_batch(name):
    ours = envs.collect(envs.make(name), 1_100, key=0)
    theirs = envs.collect(gymnasium.make(name), 1_100, key=0)
    describe = lambda data: jax.tree.map(lambda x: (x.shape, x.dtype), data)  # noqa: E731
    assert describe(ours) == describe(theirs)
    for data in (ours, theirs):
        assert len(data) == 1_100 and isinstance(data.obs, np.ndarray)
        assert_chained(data)
        assert (data.terminated | data.truncated).any()
        assert len(np.unique(data.action)) > 1
    if name == "CartPole-v1":  # the others end by the time limit alone
        assert ours.terminated.any() and not ours.truncated.any()
    else:
        assert ours.truncated.any() and not ours.terminated.any()


def test_collected_rows_are_transitions_of_the_task():
    env, params = envs.make("CartPole-v1")
    data = envs.collect((env, params), 1_100, key=1)
    state = envs.registry.CartPole().reset(jax.random.key(0), params)[1]
    for i in np.flatnonzero(data.terminated)[:3]:  # the last rows of episodes
        fields = dict(
            zip(("x", "x_dot", "theta", "theta_dot"), data.obs[i], strict=True)
        )
        start = state.replace(**fields)
        next_obs, _, reward, terminated, _ = env.step_env(
            jax.random.key(0), start, data.action[i], params
        )
        np.testing.assert_allclose(next_obs, data.next_obs[i], rtol=1e-6)
        assert terminated and reward == data.reward[i]


@jax.jit
def balance(obs, key):
    return jnp.where(obs[2] + 0.5 * obs[3] > 0, 1, 0)


@pytest.mark.parametrize("make", [envs.make, gymnasium.make])
def test_policies_are_followed(make):
    data = envs.collect(make("CartPole-v1"), 501, key=0, policy=balance)
    np.testing.assert_array_equal(
        data.action, jax.vmap(balance, (0, None))(data.obs, 0)
    )
    np.testing.assert_array_equal(np.flatnonzero(data.truncated), [499])
    assert not data.terminated.any() and data.action.dtype == np.int32


@pytest.mark.parametrize("make", [envs.make, gymnasium.make])
def test_keys_decide_everything(make):
    @jax.jit
    def noisy(obs, key):
        return jax.random.randint(key, (), 0, 2)

    for policy in (None, noisy):
        one, same, other = (
            envs.collect(make("CartPole-v1"), 50, key=key, policy=policy)
            for key in (7, jax.random.key(7), 8)
        )
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(same), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (one.obs[0] != other.obs[0]).all()
        assert (one.action != other.action).any()


traces = []


def linear(weights, obs, key):
    traces.append(1)
    return (obs @ weights > 0).astype(jnp.int32)


@struct.dataclass
class LinearPolicy:
    weights: jax.Array

    def __call__(self, obs, key):
        return linear(self.weights, obs, key)


@pytest.mark.parametrize(
    "make_policy", [LinearPolicy, lambda w: jax.tree_util.Partial(linear, w)]
)
def test_policies_with_weights_compile_once(make_policy):
    traces.clear()
    task = envs.make("CartPole-v1")
    for seed in range(3):
        policy = make_policy(jax.random.normal(jax.random.key(seed), (4,)))
        data = envs.collect(task, 20, key=seed, policy=policy)
        np.testing.assert_array_equal(
            data.action, data.obs @ policy_weights(policy) > 0
        )
    assert len(traces) == 3  # one or no axis of a batch, and the program


def policy_weights(policy):
    return np.asarray(jax.tree.leaves(policy)[0])


def test_bad_input_is_refused():
    task = envs.make("CartPole-v1")
    with pytest.raises(ValueError, match="num_transitions must be an integer"):
        envs.collect(task, 0, key=0)
    with pytest.raises(TypeError, match=r"^task must be the name of a task, a gymnax"):
        envs.collect((1, 2, 3), 10, key=0)  # type: ignore
    with pytest.raises(ValueError, match=r"unknown task 'CartPole-v11'; did you mean"):
        envs.collect("CartPole-v11", 10, key=0)
    with pytest.raises(TypeError, match="policy must be a function"):
        envs.collect(task, 10, key=0, policy=1)  # type: ignore
    own = RandomWalk()
    with pytest.raises(TypeError, match=r"task: .* single arrays, got (dict|Dict)"):
        envs.collect((own, own.default_params), 10, key=0)


def test_invalid_numbers_of_a_task_are_reported_by_field():
    env, params = envs.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"^obs must be finite .* first in row 1$"):
        envs.collect((env, params.replace(gravity=jnp.nan)), 50, key=0)

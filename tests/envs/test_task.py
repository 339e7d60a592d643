"""Tasks inside JAX: what opening one decides, batches of policies, memory."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
from envs.task import as_pair
from jaxrl_se import DDQN, TaskTest, evaluate, train

CARTPOLE = envs.make("CartPole-v1")


@struct.dataclass
class Linear:
    weights: jax.Array

    def __call__(self, obs, key):
        return (obs @ self.weights > 0).astype(jnp.int32)


@struct.dataclass
class Alternating:
    """Remembers how often it acted, and pushes from side to side."""

    first: jax.Array

    def start(self):
        return jnp.int32(self.first)

    def step(self, memory, obs, key):
        return memory % 2, memory + 1


def some_policies(*batch):
    return Linear(jax.random.normal(jax.random.key(3), (*batch, 4)))


def test_every_way_to_name_a_task_opens_the_same_one():
    env, params = CARTPOLE
    opened = [
        envs.open_task("CartPole-v1"),
        envs.open_task(CARTPOLE),
        envs.open_task(env, params),
        envs.open_task(envs.open_task("CartPole-v1")),
    ]
    for task in opened:
        assert task.pair == CARTPOLE and task.digest == opened[0].digest
        assert (task.name, task.kind, task.solved_return) == (
            "CartPole-v1",
            "real",
            475.0,
        )
        assert task.spaces == envs.Spaces(4, 2) and task.time_limit == 500
        assert not task.is_external
    other = envs.open_task(env, params.replace(max_steps_in_episode=100))
    assert other.solved_return is None  # nobody has agreed on one for this variant
    assert other.time_limit == 100 and other.digest != opened[0].digest
    with pytest.raises(ValueError, match=r"envs.external\('Blackjack-v1'\)"):
        envs.open_task("Blackjack-v1")


def test_the_environment_says_what_its_steps_are():
    class Model(type(CARTPOLE[0])):
        task_kind = "model"

    model, params = Model(), CARTPOLE[1]
    wrapped = envs.ActionRepeat(model, 2)
    for env in (model, wrapped):
        task = envs.open_task(env, params)
        _, steps = task.play(some_policies(), 0, 2)
        assert task.kind == "model" and steps.model > 0 and steps.real == 0
    assert envs.open_task(wrapped, params, kind="real").kind == "real"
    Model.task_kind = "modell"
    with pytest.raises(ValueError, match="task_kind must be one of real, model"):
        envs.open_task(Model(), params)
    with pytest.raises(ValueError, match="kind must be one of 'real', 'model'"):
        envs.open_task(CARTPOLE, kind="dream")  # type: ignore


def test_params_are_a_function_of_key_and_generation():
    def grow(params, key, generation):
        limit = jnp.minimum(10 * (generation + 1), params.max_steps_in_episode)
        return params.replace(max_steps_in_episode=limit)

    task = envs.open_task(CARTPOLE, vary=grow)
    limits = [int(task.params_at(0, g).max_steps_in_episode) for g in (0, 1, 99)]
    assert limits == [10, 20, 500]
    assert task.time_limit == 500 and task.digest != envs.open_task(CARTPOLE).digest
    always = Linear(jnp.float32([0, 0, 1, 0.5]))
    episodes, steps = task.play(always, 0, 3, params=task.params_at(0, 0))
    assert episodes.lengths.tolist() == [10, 10, 10] and steps == envs.Steps(real=30)
    fixed = envs.open_task(CARTPOLE)
    assert fixed.params_at(0, 5) is fixed.params


def test_steps_add_up_by_kind():
    total = envs.Steps(real=1, model=2) + envs.Steps.of("synthetic", 3)
    assert total == envs.Steps(1, 2, 3)


def test_a_batch_of_policies_is_played_as_one_by_one():
    task, policies = envs.open_task(CARTPOLE), some_policies(2, 3)
    episodes, steps = task.play(policies, 7, 4)
    assert episodes.returns.shape == (2, 3, 4)
    assert steps.real == int(np.sum(episodes.lengths))
    keys = jax.random.split(jax.random.key(7), (2, 3))
    alone, _ = task.play(Linear(policies.weights[1, 2]), keys[1, 2], 4)
    np.testing.assert_array_equal(episodes.returns[1, 2], alone.returns)
    # Keys of the caller's own: policies with the same key meet the same episodes.
    same = jnp.broadcast_to(jax.random.key(1), (2, 3))
    twice = Linear(jnp.broadcast_to(policies.weights[0, 0], (2, 3, 4)))
    returns = np.asarray(task.play(twice, same, 4)[0].returns)
    assert (returns == returns[0, 0]).all() and len(set(returns[0, 0])) > 1
    with pytest.raises(ValueError, match=r"key must be one key or .* \(2, 3\)"):
        task.play(policies, same[0], 4)


def test_a_batch_of_one_and_square_weights_are_told_apart():
    task = envs.open_task(CARTPOLE)
    assert task.play(some_policies(1), 0, 2)[0].returns.shape == (1, 2)
    # Four policies of four weights are a square, and still four policies.
    assert task.play(some_policies(4), 0, 2)[0].returns.shape == (4, 2)
    assert task.play(some_policies(), 0, 2)[0].returns.shape == (2,)
    two_actions = Linear(jnp.zeros((4, 2)))  # a policy of two actions at a time
    with pytest.raises(ValueError, match=r"actions of shape \(\), got \(2,\)"):
        task.play(two_actions, 0, 2)


@struct.dataclass
class Best:
    weights: jax.Array

    def __call__(self, obs, key):
        return jnp.argmax(obs @ self.weights)  # over policies too, if there are some


@pytest.mark.parametrize(
    "task", ["CartPole-v1", envs.external("CartPole-v1", engine="gymnasium")]
)
def test_a_policy_that_reduces_over_everything_does_not_hide_a_batch(task):
    policies = Best(jax.random.normal(jax.random.key(0), (3, 4, 2)))
    with pytest.raises(ValueError, match=r"num_axes must be given: .* 0 or 1 of its"):
        evaluate(policies, task, 0, 2)
    with pytest.raises(ValueError, match="num_axes must be given"):
        envs.collect(task, 5, 0, policies)
    batch = evaluate(policies, task, 0, 2, num_axes=1).returns
    assert batch.shape == (3, 2)
    keys = jax.random.split(jax.random.key(0), 3)
    alone = evaluate(Best(policies.weights[1]), task, keys[1], 2)
    np.testing.assert_array_equal(alone.returns, batch[1])
    with pytest.raises(ValueError, match=r"num_axes must be in 0\.\.3, .* got 4"):
        evaluate(policies, task, 0, 2, num_axes=4)
    with pytest.raises(ValueError, match=r"got a batch of \(3,\)"):
        envs.collect(task, 5, 0, policies, num_axes=1)
    square = Best(jnp.zeros((4, 4)))  # told that it is one, as one it is taken
    assert evaluate(square, task, 0, 2, num_axes=0).returns.shape == (2,)


def test_evaluate_takes_names_pairs_seeds_and_batches():
    policies = some_policies(3)
    forms = [
        evaluate(policies, "CartPole-v1", 5, 2),
        evaluate(policies, CARTPOLE, jax.random.key(5), 2),
        evaluate(policies, *CARTPOLE, 5, 2),
        evaluate(policies, *CARTPOLE, key=jax.random.PRNGKey(5), num_episodes=2),
        evaluate(policies, task=envs.open_task(CARTPOLE), key=5, num_episodes=2),
    ]
    for episodes in forms:
        np.testing.assert_array_equal(episodes.returns, forms[0].returns)
    with pytest.raises(ValueError, match="key must be a seed"):
        evaluate(policies, "CartPole-v1", "seed")  # type: ignore


def test_memory_is_kept_within_an_episode_and_no_longer():
    one = Alternating(jnp.int32(0))
    episodes = evaluate(one, "CartPole-v1", 0, 3)
    batch = evaluate(Alternating(jnp.zeros(2, jnp.int32)), "CartPole-v1", 0, 3)
    assert episodes.returns.shape == (3,) and batch.returns.shape == (2, 3)
    for task in (CARTPOLE, gymnasium.make("CartPole-v1")):
        data = envs.collect(task, 300, 0, one)
        ends = np.flatnonzero(data.terminated | data.truncated)
        starts = np.concatenate([[0], ends + 1])
        assert len(starts) > 2
        for start, end in zip(starts, [*starts[1:], 300], strict=True):
            np.testing.assert_array_equal(
                data.action[start:end], np.arange(end - start) % 2
            )


def test_a_task_outside_jax_is_refused_where_a_pair_is_needed():
    assert as_pair("CartPole-v1") == CARTPOLE
    for task in (gymnasium.make("CartPole-v1"), envs.external("CartPole-v1")):
        with pytest.raises(TypeError, match=r"gymnax pair .* oswm.condition"):
            as_pair(task)
        with pytest.raises(TypeError, match=r"env must be a gymnax pair"):
            train(DDQN(), task, None, jax.random.key(0))
        with pytest.raises(TypeError, match=r"task must be a gymnax pair"):
            TaskTest.of(task)
    assert TaskTest.of("CartPole-v1", window=2).env is CARTPOLE[0]

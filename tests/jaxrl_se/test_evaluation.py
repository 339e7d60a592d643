"""Evaluation against a plain loop, wrappers, and Gymnasium's own environment."""

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment
from gymnax.wrappers import FlattenObservationWrapper
from gymnax.wrappers.purerl import GymnaxWrapper
from probe_env import Probe, ProbeParams

import envs
from jaxrl_se import GreedyPolicy, RandomPolicy, Spaces, evaluate
from jaxrl_se.networks import MLP

CARTPOLE = envs.make("CartPole-v1")


def lean(obs, key=None):
    """Pushes the cart towards the side to which the pole leans: about 42 steps."""
    return (obs[2] > 0).astype(jnp.int32)


@struct.dataclass
class Bias:
    """A policy with one parameter: push right unless obs[2] is below it."""

    threshold: jax.Array

    def __call__(self, obs, key):
        return (obs[2] > self.threshold).astype(jnp.int32)


def test_equals_a_python_loop():
    """The returns of a loop over the public step; CartPole's dynamics need no key."""
    env, params = CARTPOLE
    key = jax.random.key(0)
    episodes = evaluate(lean, env, params, key, 3)
    # The documented order of keys: one pair per episode, the first for its reset.
    reset_keys = jax.random.split(key, (3, 2))[:, 0]
    for i, reset_key in enumerate(reset_keys):
        obs, state = env.reset(reset_key, params)
        total, length, done = 0.0, 0, False
        while not done:
            action = np.int32(obs[2] > 0)
            obs, state, reward, terminated, truncated, _ = env.step(
                key, state, action, params
            )
            total, length = total + float(reward), length + 1
            done = terminated or truncated
        assert (float(episodes.returns[i]), int(episodes.lengths[i])) == (total, length)
    assert len(set(episodes.lengths.tolist())) > 1  # they end at different times
    assert episodes.returns.dtype == jnp.float32
    assert episodes.lengths.dtype == jnp.int32


def test_agrees_with_gymnasium():
    """The same initial states and a fixed policy in Gymnasium's CartPole."""
    env, params = CARTPOLE
    key = jax.random.key(1)
    episodes = evaluate(lean, env, params, key, 3)
    theirs = gymnasium.make("CartPole-v1").unwrapped
    for i, reset_key in enumerate(jax.random.split(key, (3, 2))[:, 0]):
        obs, _ = env.reset(reset_key, params)
        theirs.reset()
        theirs.state = obs = np.asarray(obs, np.float64)
        total, done = 0.0, False
        while not done:
            obs, reward, done, _, _ = theirs.step(int(obs[2] > 0))
            total += float(reward)
        # float32 against float64 dynamics: a pole falls within a step of each other.
        assert abs(float(episodes.returns[i]) - total) <= 1


def test_rewards_after_the_end_do_not_count():
    env = Probe()
    short = ProbeParams(every_step=1.0, terminates_after=2, show_time=1.0)
    truncated = short.replace(terminates_after=100, max_steps_in_episode=5)
    for params, expected in ((short, 2), (truncated, 5)):
        episodes = evaluate(RandomPolicy(Spaces(2, 2)), env, params, jax.random.key(0))
        assert episodes.returns.tolist() == [expected] * 10
        assert episodes.lengths.tolist() == [expected] * 10


def test_wrappers_that_override_step_are_played_as_they_are():
    class DoubledReward(GymnaxWrapper):
        def step(self, *args):
            obs, state, reward, *rest = self._env.step(*args)
            return obs, state, 2 * reward, *rest

    class TripledReward(Probe):
        def step(self, *args):
            obs, state, reward, *rest = environment.Environment.step(self, *args)
            return obs, state, 3 * reward, *rest

    params = ProbeParams(every_step=1.0, terminates_after=4)
    policy = RandomPolicy(Spaces(2, 2))
    for env, factor in ((DoubledReward(Probe()), 2), (TripledReward(), 3)):
        episodes = evaluate(policy, env, params, jax.random.key(0), 2)
        assert episodes.returns.tolist() == [4 * factor] * 2
        assert episodes.lengths.tolist() == [4, 4]


def test_a_task_of_gymnax_in_its_own_wrapper():
    """Catch ends after nine steps with 1 or -1, and observes a 10 x 5 board."""
    env, params = gymnax.make("Catch-bsuite")
    assert Spaces.of(env, params).vectors == Spaces(50, 3)
    flat = FlattenObservationWrapper(env)
    spaces = Spaces.of(flat, params)
    assert spaces == Spaces(50, 3)
    episodes = evaluate(RandomPolicy(spaces), flat, params, jax.random.key(0), 20)
    assert set(episodes.returns.tolist()) == {-1, 1}
    assert set(episodes.lengths.tolist()) == {9}


def test_policies_with_parameters_compile_once():
    env, params = Probe(), ProbeParams(every_step=1.0, terminates_after=4)
    evaluate(Bias(jnp.float32(0)), env, params, jax.random.key(0), 2)
    num_traces = len(env.traces)
    evaluate(Bias(jnp.float32(1)), env, params, jax.random.key(1), 2)
    assert len(env.traces) == num_traces


def test_vmap_over_policies():
    env, params = CARTPOLE
    thresholds = jnp.array([-9.0, 0.0, 9.0])
    returns = jax.jit(
        jax.vmap(lambda p: evaluate(p, env, params, jax.random.key(0), 2).returns)
    )(Bias(thresholds))
    assert returns.shape == (3, 2)
    always_right, leaning, always_left = returns.mean(axis=1)
    assert leaning > 2 * max(always_right, always_left)


def test_greedy_policy_takes_the_highest_value():
    net = MLP(2, (), 3)
    kernel = np.float32([[1, 0], [0, 1], [-1, -1]])
    policy = GreedyPolicy(({"kernel": kernel, "bias": np.zeros(3, np.float32)},), net)
    act = jax.jit(jax.vmap(lambda obs: policy(obs)))
    actions = act(np.float32([[2, 1], [1, 2], [-1, -1]]))
    assert actions.tolist() == [0, 1, 2] and actions.dtype == jnp.int32


def test_random_policy_samples_the_action_space():
    keys = jax.random.split(jax.random.key(0), 200)
    discrete = RandomPolicy(Spaces(2, 3))
    actions = jax.jit(jax.vmap(lambda key: discrete(None, key)))(keys)
    counts = np.bincount(actions, minlength=3)
    assert len(counts) == 3 and counts.min() > 40
    box = RandomPolicy(Spaces(2, None, (-2.0,), (1.0,)))
    actions = jax.jit(jax.vmap(lambda key: box(None, key)))(keys)
    assert actions.shape == (200, 1)
    assert -2 <= actions.min() < -1.5 and 0.5 < actions.max() <= 1


@pytest.mark.parametrize("num_episodes", [0, -1])
def test_num_episodes_is_checked(num_episodes):
    with pytest.raises(ValueError, match=f"num_episodes .* got {num_episodes}"):
        evaluate(lean, *CARTPOLE, jax.random.key(0), num_episodes)

"""PPO that remembers learns what one that does not cannot."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from jaxrl_se import PPO, RecurrentPPO, Spaces, start
from jaxrl_se.recurrent import GRUTorso, RecurrentNetwork

AGENT = RecurrentPPO(
    learning_rate=1e-2, num_envs=16, rollout_steps=16, memory_size=8, num_minibatches=2
)


def chain(length):
    env, params = gymnax.make("MemoryChain-bsuite")
    return env, params.replace(memory_length=length)


@pytest.mark.slow  # the next test holds memory, `test_normalized_observations` trains
def test_it_remembers_the_first_observation_of_a_chain():
    """The last action pays if it is the bit that was shown at first."""
    task = chain(2)
    num_steps = 16 * 16 * 24
    trained = jaxrl_se.train(AGENT, *task, 0, num_steps)
    returns = jaxrl_se.evaluate(trained.policy, *task, 1, 32).returns
    assert np.mean(returns) > 0.9  # 1 is the most; 0 by chance


def test_acting_and_learning_see_the_same_memory():
    """Log-probabilities of learning are those of the policy that acted."""
    task = chain(3)
    state = start(AGENT, *task, 0, num_steps=512)
    spaces = state.spaces
    own = state.agent
    key = jax.random.key(1)
    memory = own.memory
    network = AGENT.network(spaces)
    obs = jax.random.normal(key, (16, 16, spaces.obs_size))
    done = jax.random.bernoulli(key, 0.3, (16, 16))

    @jax.jit
    def step(own, memory, obs, done, t):
        noise = jax.random.gumbel(jax.random.fold_in(key, t), (16, 2))
        memory = jnp.where(own.is_first[:, None], 0.0, memory)
        memory, features = network.step(own.weights, memory, obs)
        logits = network.outputs(own.weights, "actor", features)
        _, kept = AGENT.act(spaces, own, obs, noise)
        transition = jaxrl_se.Transition(
            obs=obs,
            action=kept,
            reward=jnp.zeros(16),
            next_obs=obs,
            bootstrap_weight=jnp.ones(16),
            done=done,
        )
        own = AGENT.observe(spaces, own, transition)
        return own, memory, jnp.sum(jax.nn.log_softmax(logits) * kept[0], axis=-1)

    expected = []
    for t in range(16):
        own, memory, log_prob = step(own, memory, obs[t], done[t], t)
        expected.append(log_prob)
    data = jax.jit(AGENT.sequences, static_argnums=0)(spaces, own)
    np.testing.assert_allclose(data.log_prob, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(own.first[1:], done[:-1])


def test_bad_sizes_and_hidden_entries_are_named():
    with pytest.raises(ValueError, match=r"must divide num_envs \(64\), got 3"):
        RecurrentPPO(num_minibatches=3).check(Spaces(2, 2))
    env, params = envs.make("CartPole-v1")
    part = envs.PartlyObserved(env, (0, 2))
    obs, _ = part.reset(jax.random.key(0), params)
    whole, _ = env.reset(jax.random.key(0), params)
    np.testing.assert_array_equal(obs, whole[np.array([0, 2])])
    assert Spaces.of(part, params) == Spaces(2, 2)
    assert part == envs.PartlyObserved(env, (0, 2)) != envs.PartlyObserved(env, (0,))
    with pytest.raises(ValueError, match="shown must hold places"):
        envs.PartlyObserved(env, (4,))


def test_a_step_is_that_of_flax():
    network = RecurrentNetwork(Spaces(3, 2), 5, 2)
    weights = network.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 3)
    obs, memory = (
        jax.random.normal(keys[0], (4, 6, 3)),
        jax.random.normal(keys[1], (6, 5)),
    )
    first = jax.random.bernoulli(keys[2], 0.3, (4, 6))
    features = network.remember(weights, memory, first, obs)
    for t in range(4):
        before = jnp.where(first[t][:, None], 0.0, memory)
        memory, _ = network.step(weights, before, obs[t])
        np.testing.assert_allclose(features[t], memory, rtol=1e-5, atol=1e-6)
        expected, _ = GRUTorso(5).apply(weights["torso"], before, obs[t])
        np.testing.assert_allclose(memory, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_cart_pole_without_velocities():
    """It solves it, and PPO without memory does not."""
    env, params = envs.make("CartPole-v1")
    task = (envs.PartlyObserved(env, (0, 2)), params)
    remembers = jaxrl_se.train(RecurrentPPO(), *task, 0, 64 * 64 * 240)
    returns = jaxrl_se.evaluate(remembers.policy, *task, 1, 64).returns
    assert np.mean(returns) >= 475
    forgets = jaxrl_se.train(PPO(), *task, 0, 300_000)
    returns = jaxrl_se.evaluate(forgets.policy, *task, 1, 64).returns
    assert np.mean(returns) < 475

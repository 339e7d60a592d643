"""Networks of agents that are no perceptrons."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probe_env import PROBES, Probe

from jaxrl_se import DDQN, PPO, SAC, TD3, Choice, Spaces, Varied, train
from jaxrl_se.networks import MLP
from jaxrl_se.torsos import CNN, TorsoNetwork, make_network
from jaxrl_se.training import train_once


class Torso(nn.Module):
    """A hidden layer, as `MLP` has it but for its first weights."""

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(16)(x))


@pytest.mark.parametrize(("size", "channels"), [(10, 4), (84, 2)])
def test_images_in_bytes_are_the_same_as_in_shares(size, channels):
    cnn = make_network("cnn", (size, size, channels), (), 3, "relu")
    weights, network = cnn.init(jax.random.key(0)), jax.jit(cnn)
    numbers = np.random.default_rng(0)
    shape = (2, 5, size, size, channels)
    images = numbers.integers(0, 256, shape).astype(np.uint8)
    outputs = network(weights, images)
    assert outputs.shape == (2, 5, 3)
    np.testing.assert_allclose(
        outputs,
        network(weights, images.astype(np.float32) / 255),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(outputs[1, 2], network(weights, images[1, 2]), atol=1e-5)
    assert outputs.std(axis=(0, 1)).min() > 1e-4  # it looks at them
    halved = cnn.scale_output(weights, 0.5)
    np.testing.assert_allclose(network(halved, images), outputs / 2, atol=1e-6)


def test_a_flax_module_learns_what_a_perceptron_learns():
    """Rewards of 1 for the action that has the observation's sign, else -1."""
    agent = DDQN(
        learning_rate=1e-2,
        discount=0.9,
        epsilon_end=1.0,
        target_update_rate=0.05,
        network=Torso(),
    )
    policy = train(agent, Probe(), PROBES["reward by both"], 0, 1000).policy
    for signal in (-1, 1):
        q = policy.network(policy.weights, jnp.array([signal, 0.0]))
        np.testing.assert_allclose(q, jnp.array([-signal, signal]), atol=0.1)


@pytest.mark.parametrize("agent", [PPO, SAC, TD3])
def test_all_agents_take_one(agent):
    """Traced, not compiled; the weights are the module's and a head's."""
    agent = agent(network=Torso())
    if isinstance(agent, TD3):
        spaces = Spaces(2, None, (-1.0,), (1.0,))
        agent.check(spaces)
        state = agent.start(spaces, jax.random.key(0), num_steps=5)
        weights = agent.policy_weights(spaces, state)
    else:
        spaces, probe = Spaces(2, 2), PROBES["two steps"]
        agent.check(spaces)
        trained = jax.eval_shape(
            lambda key: train_once(agent, Probe(), probe, key, num_steps=500),
            jax.random.key(0),
        )
        weights = trained.weights
    assert set(weights) == {"torso", "head"}


def test_bad_networks_are_named():
    key = jax.random.key(0)
    task = (Probe(), PROBES["two steps"])
    for network, named in (
        ("rnn", "network must be 'mlp', 'cnn' or a flax.linen.Module, got 'rnn'"),
        ("cnn", r"network must be 'mlp' or .* shape \(2,\), got 'cnn'"),
    ):
        with pytest.raises(ValueError, match=named):
            train(DDQN(network=network), *task, key, 10)
    with pytest.raises(ValueError, match="got 'mlp'"):
        make_network("mlp", (10, 10, 4), (8,), 2, "relu")
    with pytest.raises(ValueError, match="network must be 'mlp' for a dueling one"):
        train(DDQN(network=Torso(), dueling=True), *task, key, 10)
    varied = Varied.of(DDQN(network=Torso()), width=Choice((8,)))
    with pytest.raises(ValueError, match="network must be 'mlp' for networks whose"):
        train(varied, *task, key, 10)
    assert make_network("mlp", (4,), (8,), 2, "relu") == MLP(4, (8,), 2, "relu")
    assert TorsoNetwork(CNN(), (10, 10, 1), 2) == make_network(
        "cnn", (10, 10, 1), (), 2, "relu"
    )


class Odd(nn.Module):
    """A module that is no function of its input alone, in one way or another."""

    how: str

    @nn.compact
    def __call__(self, inputs, *more):
        features = nn.Dense(4)(inputs)
        if self.how == "random":
            return nn.Dropout(0.5, deterministic=False)(features)
        if self.how == "running":
            return nn.BatchNorm(use_running_average=True)(features)
        if self.how == "argument":
            return features * more[0]
        if self.how == "batch":
            return nn.Dense(4)(inputs.reshape(inputs.shape[0], -1))
        return features, inputs


@pytest.mark.parametrize("how", ["random", "running", "argument", "batch", "pair"])
def test_modules_that_are_no_function_of_one_observation_are_named(how):
    with pytest.raises(
        ValueError, match=r"network must map \[\.\.\., 3\] to .*but Odd"
    ):
        make_network(Odd(how), (3,), (), 2, "relu")

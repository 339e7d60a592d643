"""Dueling networks: the reference's golden vector, the mean, exact values on probes."""

import jax
import numpy as np
import pytest
from golden import sine_weights
from probe_env import PROBES, Probe

from jaxrl_se import DDQN, Spaces, train
from jaxrl_se.networks import DuelingMLP

OBS = np.float32([[0.1, 0.2, 0.3, 0.4], [0.5, -0.1, 0.0, 0.2]])


def golden(mean_over_batch):
    """The network of section "golden vectors", tanh 8 and 6 features, sine weights."""
    network = DuelingMLP.build(4, (8,), 6, 2, "tanh", mean_over_batch)
    weights = {
        name: sine_weights(getattr(network, name), first=first)
        for name, first in (("features", 0), ("value", 4), ("advantage", 8))
    }
    return network, weights


def test_golden_vector_of_the_reference():
    """Computed with the code of Ferreira et al., whose mean is over the minibatch."""
    network, weights = golden(mean_over_batch=True)
    expected = [[0.002041, -0.038463], [0.002006, -0.038498]]
    np.testing.assert_allclose(jax.jit(network)(weights, OBS), expected, atol=1e-6)


def test_the_mean_is_per_row_by_default():
    network, weights = golden(mean_over_batch=False)
    q = jax.jit(network)(weights, OBS)
    assert not np.allclose(q, jax.jit(golden(True)[0])(weights, OBS), atol=1e-5)
    one = jax.jit(network)
    for row, obs in zip(q, OBS, strict=True):  # no row depends on another
        np.testing.assert_allclose(one(weights, obs), row, atol=1e-7)
    features = jax.jit(network.features)(weights["features"], OBS)
    value = jax.jit(network.value)(weights["value"], features)[:, 0]
    np.testing.assert_allclose(np.mean(q, axis=1), value, atol=1e-7)


def test_ddqn_builds_it():
    spaces = Spaces(4, 2)
    agent = DDQN(dueling=True, hidden_sizes=(8,), feature_size=6, activation="tanh")
    assert agent.q_network(spaces) == golden(mean_over_batch=False)[0]
    agent = agent.replace(dueling_mean_over_batch=True)
    assert agent.q_network(spaces) == golden(mean_over_batch=True)[0]


@pytest.mark.slow  # golden vectors hold the network, `test_ddqn` learning
def test_probe_values():
    agent = DDQN(
        learning_rate=3e-3,
        discount=0.9,
        epsilon_end=1.0,
        target_update_rate=0.05,
        dueling=True,
        hidden_sizes=(16,),
        feature_size=8,
    )
    policies = {
        name: train(agent, Probe(), PROBES[name], jax.random.key(0), 1500).policy
        for name in ("reward by both", "truncation")
    }
    for name, signal, expected in (
        ("reward by both", -1, (1, -1)),
        ("reward by both", 1, (-1, 1)),
        ("truncation", 1, (10, 10)),
    ):
        policy = policies[name]
        q = policy.network(policy.weights, np.float32([signal, 0]))
        np.testing.assert_allclose(q, expected, rtol=0.05)

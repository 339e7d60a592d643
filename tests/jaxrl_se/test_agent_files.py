"""Agents as files: what is loaded acts as what was saved, and nothing else is."""

import json
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_se
from jaxrl_runs.weight_files import WeightFileError, read_weights, write_weights
from jaxrl_se import (
    DDQN,
    PPO,
    SAC,
    TD3,
    DiscreteTD3,
    FlatPolicy,
    QLearning,
    RandomPolicy,
    RecurrentPPO,
    Spaces,
)

DISCRETE = Spaces(3, 2)
BOUNDED = Spaces(3, None, (-2.0, 0.0), (2.0, 1.0))
STATES = Spaces(5, 3, num_states=5, obs_shape=(), obs_dtype="int32")
BYTES = Spaces(48, 3, obs_shape=(4, 4, 3), obs_dtype="uint8")


class Own(nn.Module):
    """A network of the user's own."""

    size: int = 4

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(self.size)(x))


AGENTS = {
    "greedy": (DDQN(hidden_sizes=(4,)), DISCRETE),
    "dueling": (DDQN(hidden_sizes=(4,), feature_size=4, dueling=True), DISCRETE),
    "mean": (PPO(hidden_sizes=(4,)), BOUNDED),
    "deterministic": (TD3(hidden_sizes=(4,)), BOUNDED),
    "logits": (DiscreteTD3(hidden_sizes=(4,)), DISCRETE),
    "flat": (SAC(hidden_sizes=(4,)), BYTES),
    "picture": (PPO(network="cnn"), BYTES),
    "tabular": (QLearning(), STATES),
    "own network": (DDQN(network=Own()), DISCRETE),
}


def policy_of(agent, spaces):
    """An untrained one; nothing is compiled for it."""
    state = agent.start(spaces, jax.random.key(0), num_steps=2)
    return agent.policy(spaces, agent.policy_weights(spaces, state))


def observations(spaces, *batch):
    numbers = np.random.default_rng(0)
    high = spaces.num_states or (256 if spaces.obs_dtype == "uint8" else 2)
    found = numbers.integers(0, high, (*batch, *spaces.obs_shape))
    return found.astype(spaces.obs_dtype)


@pytest.mark.parametrize("name", AGENTS)
def test_what_is_loaded_acts_as_what_was_saved(name, tmp_path):
    agent, spaces = AGENTS[name]
    policy = policy_of(agent, spaces)
    card = {"task": name, "return": 1.5}
    path = jaxrl_se.save_agent(tmp_path / "agent", policy, spaces=spaces, card=card)
    network = Own() if name == "own network" else None
    loaded = jaxrl_se.load_agent(path, network=network)
    obs = observations(spaces, 2, 3)
    actions = loaded(obs)
    expected = [[policy(x, None) for x in row] for row in obs]
    np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-6)
    one = loaded(obs[1, 2])
    assert isinstance(one, int) == (spaces.num_actions is not None)
    assert loaded.card == card and loaded.spaces == spaces
    wrong = np.zeros((2, 7)) if spaces.obs_shape else np.float32(0.5)
    with pytest.raises(ValueError, match="obs must"):
        loaded(wrong)
    if name == "own network":
        with pytest.raises(ValueError, match="network must be the flax module Own"):
            jaxrl_se.load_agent(path)
        with pytest.raises(ValueError, match="of the same sizes, got Own"):
            jaxrl_se.load_agent(path, network=Own(size=3))


def test_policies_that_draw_or_flatten(tmp_path):
    inner = policy_of(DDQN(hidden_sizes=(4,)), BYTES.vectors)
    for policy in (FlatPolicy(inner, BYTES), RandomPolicy(BYTES)):
        path = jaxrl_se.save_agent(tmp_path / "agent.npz", policy)
        actions = jaxrl_se.load_agent(path)(observations(BYTES, 6))
        assert actions.shape == (6,) and set(actions) <= {0, 1, 2}
    with pytest.raises(ValueError, match="needs no random numbers"):
        jaxrl_se.export_policy(tmp_path / "policy", RandomPolicy(BYTES))


@pytest.mark.parametrize("spaces", [DISCRETE, BOUNDED], ids=["discrete", "continuous"])
def test_policies_that_sample(spaces, tmp_path):
    policy = policy_of(PPO(hidden_sizes=(4,), deterministic=False), spaces)
    path = jaxrl_se.save_agent(tmp_path / "agent", policy, spaces=spaces)
    loaded = jaxrl_se.load_agent(path).policy
    obs, key = observations(spaces, 1)[0], jax.random.key(3)
    np.testing.assert_allclose(loaded(obs, key), policy(obs, key), rtol=1e-5)


def test_an_agent_that_remembers(tmp_path):
    policy = policy_of(RecurrentPPO(memory_size=4), BOUNDED)
    path = jaxrl_se.save_agent(tmp_path / "agent.npz", policy)
    agent = jaxrl_se.load_agent(path)
    obs = observations(BOUNDED, 3, 2)  # [time, batch, ...]
    memory, expected = jnp.stack([policy.start()] * 2), []
    for x in obs:
        action, memory = jax.vmap(policy.step)(memory, x)
        expected.append(action)
    np.testing.assert_allclose([agent(x) for x in obs], expected, rtol=1e-5)
    again = agent(obs[0], first=[True, False])
    np.testing.assert_allclose(again[0], expected[0][0], rtol=1e-5)
    assert np.abs(again[1] - expected[0][1]).max() > 1e-7
    agent.reset()
    np.testing.assert_allclose(agent(obs[0]), expected[0], rtol=1e-5)


def test_bad_files_and_agents_are_named(tmp_path):
    policy = policy_of(*AGENTS["greedy"])
    with pytest.raises(ValueError, match=r"got one of your own .*export_policy"):
        jaxrl_se.save_agent(tmp_path / "own", lambda obs, key: 0, spaces=DISCRETE)
    path = jaxrl_se.save_agent(tmp_path / "agent.npz", policy, spaces=DISCRETE)
    metadata, arrays = read_weights(path)

    def changed(old, new):
        text = json.dumps(metadata)
        assert old in text
        forged = json.loads(text.replace(old, new))
        return write_weights(tmp_path / "forged.npz", arrays, forged)

    for old, new in (
        ('"GreedyPolicy"', '"os.system"'),
        ('"MLP"', '"SAC"'),
        ('{"tuple": [3]}', '{"tuple": [4]}'),
        ('"array 0"', '"array 9"'),
        ('"num_actions": 2', '"num_actions": null'),
    ):
        with pytest.raises(WeightFileError, match="does not describe an agent"):
            forged = changed(old, new)
            jaxrl_se.load_agent(forged)
    with pytest.raises(WeightFileError, match="format version 2"):
        jaxrl_se.load_agent(changed('"format_version": 1', '"format_version": 2'))
    with pytest.raises(FileNotFoundError, match="no shipped agent"):
        jaxrl_se.load_agent(tmp_path / "nothing")
    with pytest.raises(ValueError, match="spaces must be given"):
        jaxrl_se.save_agent(path, policy)
    several = jax.tree.map(lambda x: jnp.stack([x, x]), policy)
    with pytest.raises(ValueError, match="trained must be one policy, got 2; take"):
        jaxrl_se.save_agent(path, several, spaces=DISCRETE)
    with pytest.raises(ValueError, match=r"obs must be of shape \[3\].* got \[5\]"):
        policy(np.zeros(5), None)
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), policy)
    with pytest.raises(ValueError, match="NaN"):
        jaxrl_se.save_agent(path, broken, spaces=DISCRETE)


READER = """
import sys, jax, numpy as np
function = jax.export.deserialize(open(sys.argv[1], "rb").read())
print(np.asarray(function.call(np.load(sys.argv[2]))).tolist())
assert not {"jaxrl_se", "envs", "flax"} & set(sys.modules)
"""


def test_agents_refuse_what_is_not_finite_and_are_no_environments(tmp_path):
    agent = jaxrl_se.load_agent("CartPole-v1")
    with pytest.raises(ValueError, match="obs must be finite, got nan"):
        agent([0.0, np.nan, 0.0, 0.0])
    for given, message in (
        ((np.zeros(4), {}), r"write obs, info = env.reset\(\)"),
        ((np.zeros(4), 0.0, False, False, {}), r"= env.step\(action\)"),
        ({"place": 0.0}, "obs must be numbers.*flatten"),
        ([0.0, [1.0]], "obs must be one array"),
    ):
        with pytest.raises(ValueError, match=message):
            agent(given)
    path = jaxrl_se.save_agent(tmp_path / "agent", agent)
    with pytest.raises(ValueError, match="load_agent reads an agent"):
        jaxrl_se.load(path)


def test_an_exported_policy_runs_without_this_package(tmp_path):
    policy = policy_of(*AGENTS["mean"])
    path = jaxrl_se.export_policy(tmp_path / "policy.stablehlo", policy)
    obs = observations(BOUNDED, 3)
    np.save(tmp_path / "obs.npy", obs)
    command = [sys.executable, "-c", READER, path, tmp_path / "obs.npy"]
    found = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    expected = [policy(x, None) for x in obs]
    np.testing.assert_allclose(json.loads(found.stdout), expected, rtol=1e-5)


def test_shipped_agents_act():
    for name in jaxrl_se.available_agents():
        agent = jaxrl_se.load_agent(name)
        obs = np.zeros((2, *agent.spaces.obs_shape), np.float32)
        assert len(agent(obs)) == 2 and agent.card["task"] == name

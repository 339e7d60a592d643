"""Double DQN: golden updates, exact values on probes, groups, learning, compilation."""

import jax
import numpy as np
import pytest
from golden import sine_weights
from probe_env import PROBES, Probe

import envs
from jaxrl_se import DDQN, Spaces, evaluate, train
from jaxrl_se.agents.ddqn import Learner
from jaxrl_se.agents.replay import Batch
from jaxrl_se.training import train_group

PROBE = Probe()
# Always exploring: every action's value is learned, not only the best one's. The buffer
# is overwritten twice.
AGENT = DDQN(
    learning_rate=3e-3,
    discount=0.9,
    epsilon_end=1.0,
    target_update_rate=0.05,
    hidden_sizes=(16,),
    buffer_size=500,
)
GREEDY = AGENT.replace(epsilon_end=0.0, epsilon_steps=50.0)
NUM_STEPS = 1500


def train_on(probe, agent=AGENT, key=0):
    """Two agents, three snapshots: one program for nearly all tests of this file."""
    return train(
        agent,
        PROBE,
        PROBES[probe] if isinstance(probe, str) else probe,
        jax.random.key(key),
        NUM_STEPS,
        num_agents=2,
        num_snapshots=3,
    )


def values(policy, signal, time=0):
    """Q-values of both agents at one observation, `[2, num_actions]`."""
    obs = np.float32([signal, time])
    network = jax.jit(jax.vmap(policy.network, (0, None)))
    return np.asarray(network(policy.weights, obs))


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("constant reward", {(-1, 0): (1, 1), (1, 0): (1, 1)}),
        ("reward by observation", {(-1, 0): (-1, -1), (1, 0): (1, 1)}),
        ("two steps", {(1, 0): (0.9, 0.9), (1, 1): (1, 1)}),
        ("reward by action", {(1, 0): (-1, 1)}),
        ("reward by both", {(-1, 0): (1, -1), (1, 0): (-1, 1)}),
        # 1 + 0.9 + 0.81 = 2.71 for an agent that takes the time limit for an end.
        ("truncation", {(-1, 0): (10, 10), (1, 0): (10, 10)}),
        # The observation before the reset is the one to bootstrap from.
        ("truncation by observation", {(-1, 0): (-10, -10), (1, 0): (10, 10)}),
    ],
)
def test_probe_values(probe, expected):
    policy = train_on(probe).policy
    for obs, q in expected.items():
        np.testing.assert_allclose(values(policy, *obs), [q, q], rtol=0.05)


def test_golden_updates():
    """Three learn calls of Ferreira et al.'s reference implementation in PyTorch."""
    agent = DDQN(
        learning_rate=3.04e-4,
        discount=0.988,
        target_update_rate=0.00848,
        hidden_sizes=(57,),
        activation="tanh",
    )
    spaces = Spaces(4, 2)
    network = agent.q_network(spaces)
    learner = Learner.start(sine_weights(network, 0.1)).replace(
        target_weights=sine_weights(network, 0.05)
    )
    i, one = np.arange(4, dtype=np.float32), np.ones(4, np.float32)
    batch = Batch(
        obs=np.stack([0.1 * i, 0.2 * one, -0.1 * i, 0.3 * one], axis=1),
        next_obs=np.stack([0.1 * i + 0.05, 0.25 * one, -0.1 * one, 0.2 * i], axis=1),
        action=np.float32([[0], [1], [0], [1]]),
        reward=i,
        bootstrap_weight=np.float32([1, 1, 0.75, 0]),  # raw, as there
        mask=one,
    )
    golden = [  # loss, sum of |online weights|, sum of |target weights|
        (2.83051682, 25.493026, 12.83486),
        (2.82276917, 25.533408, 12.942543),
        (2.81500578, 25.573923, 13.049657),
    ]
    update = jax.jit(agent.learn, static_argnums=0)
    for expected_loss, *sums in golden:
        loss = agent.loss(learner.weights, learner.target_weights, network, batch)
        np.testing.assert_allclose(loss, expected_loss, rtol=2e-6)
        learner = update(spaces, learner, batch)
        for weights, expected in zip(
            (learner.weights, learner.target_weights), sums, strict=True
        ):
            total = sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(weights))
            np.testing.assert_allclose(total, expected, rtol=1e-6)
    q = network(learner.weights, np.float32([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(q, [0.193943, 0.330237], atol=1e-6)


def test_one_compilation_for_all_hyperparameters():
    kernels = []
    probe = PROBES["reward by both"].replace(terminates_after=3, show_time=1.0)
    train_on(probe)
    num_traces = len(PROBE.traces)
    for changes in (
        {},
        {"learning_rate": 1e-2},
        {"discount": 0.5},
        {"epsilon_end": 0.1, "epsilon_steps": 10.0},
        {"double": False},
        {"target_update_rate": 1.0},
        {"learning_starts": 100},
    ):
        agent = GREEDY.replace(**changes)
        policy = train_on(probe, agent).policy
        kernels.append(np.asarray(policy.weights[0]["kernel"]))
    assert len(PROBE.traces) == num_traces
    for i, kernel in enumerate(kernels):  # and each of them matters
        assert not any(np.array_equal(kernel, other) for other in kernels[:i])


def test_a_full_buffer_forgets_the_oldest():
    """The reward turns from 1 to -1 at step 900; the last 500 of 1500 are kept."""
    policy = train_on("turning reward", AGENT.replace(discount=1e-6)).policy
    q = np.minimum(values(policy, 1), values(policy, -1))  # an agent saw one of them
    assert (q < -0.9).all()


def test_a_member_of_a_group_equals_an_agent_alone():
    """Members share keys and differ by their environments alone."""
    names = ("truncation", "reward by both", "truncation")
    stacked = jax.tree.map(lambda *x: np.stack(x), *(PROBES[name] for name in names))
    key = jax.random.key(0)
    group = jax.jit(
        lambda agent, params, key: train_group(
            agent, PROBE, params, 0, key, num_members=3, num_steps=NUM_STEPS // 3
        )
    )(GREEDY, stacked, jax.random.split(key, 2)[0])
    singles = [train_on(name, GREEDY).snapshots.weights for name in names[:2]]
    for leaf, *others in zip(*map(jax.tree.leaves, (group, *singles)), strict=True):
        for member, single in enumerate(others):
            np.testing.assert_allclose(leaf[member], single[0, 0], atol=1e-4)
        np.testing.assert_array_equal(leaf[0], leaf[2])  # equal environments
        assert not np.allclose(leaf[0], leaf[1], atol=1e-2)


def test_same_key_same_bits_and_other_keys_other_agents():
    results = (train_on("reward by both", GREEDY, key) for key in (0, 0, 1))
    weights = (result.policy.weights for result in results)
    for a, b, c in zip(*map(jax.tree.leaves, weights), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a[0], a[1])  # agents of one call are independent


def test_snapshots_are_the_policies_along_the_way():
    result = train_on("constant reward", AGENT.replace(learning_starts=NUM_STEPS // 2))
    assert result.steps.tolist() == [500, 1000, 1500]
    for last, along in zip(
        jax.tree.leaves(result.policy), jax.tree.leaves(result.snapshots), strict=True
    ):
        assert along.shape == (2, 3, *last.shape[1:])
        np.testing.assert_array_equal(last, along[:, -1])
        assert not np.array_equal(along[:, 1], along[:, 2])
    late = AGENT.replace(learning_starts=1000)
    for leaf in jax.tree.leaves(train_on("constant reward", late).snapshots):
        np.testing.assert_array_equal(leaf[:, 0], leaf[:, 1])  # nothing learned yet
        assert not np.array_equal(leaf[:, 1], leaf[:, 2])


@pytest.mark.slow  # probe values say whether it learns right
def test_learns_cartpole():
    """Over eight keys the mean of 16 agents was 254 to 299; random play gets 22."""
    env, params = envs.make("CartPole-v1")
    agent = DDQN(
        learning_rate=5e-3,
        target_update_rate=0.05,
        hidden_sizes=(64,),
        batch_size=32,
        max_grad_norm=None,
    )
    policy = train(agent, env, params, jax.random.key(0), 3000, num_agents=16).policy
    returns = jax.jit(
        jax.vmap(lambda policy, key: evaluate(policy, env, params, key, 10).returns)
    )(policy, jax.random.split(jax.random.key(1), 16))
    assert returns.mean() > 195


def test_bad_arguments_are_named_before_compilation():
    task = envs.make("CartPole-v1")
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="DDQN needs discrete actions"):
        train(DDQN(), *envs.make("Pendulum-v1"), key, 10)
    with pytest.raises(ValueError, match=r"num_steps must be an integer .*1, got 0"):
        train(DDQN(), *task, key, 0)
    with pytest.raises(ValueError, match=r"num_agents must be an integer .*got -1"):
        train(DDQN(), *task, key, 10, num_agents=-1)
    with pytest.raises(ValueError, match=r"num_snapshots must .*\(10\), got 3"):
        train(DDQN(), *task, key, 10, num_snapshots=3)
    for field, value in (
        ("activation", "rleu"),
        ("hidden_sizes", (0,)),
        ("batch_size", 0),
        ("buffer_size", 0),
    ):
        with pytest.raises(ValueError, match=field):
            train(DDQN(**{field: value}), *task, key, 10)

"""PPO: advantages and loss by hand, probes, groups, stop rules, learning, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import spaces as gymnax_spaces
from probe_env import PROBES, Probe

import envs
from jaxrl_se import PPO, Solved, Spaces, evaluate, train
from jaxrl_se.agents import Variation
from jaxrl_se.agents.ppo import Minibatch, Rollout, advantages
from jaxrl_se.networks import MLP, NetworkShape
from jaxrl_se.training import train_group, train_once


@struct.dataclass
class Watched(PPO):
    """PPO whose snapshots hold the critic too."""

    def policy_weights(self, spaces, state):
        return state.learner.weights


class ContinuousProbe(Probe):
    """Pays `by_match` times minus the squared distance of the action from a target."""

    def action_space(self, params=None):
        return gymnax_spaces.Box(-2.0, 1.0, (1,), jnp.float32)

    def step_env(self, key, state, action, params):
        obs, state, _, last, info = super().step_env(key, state, 0, params)
        error = action[0] - (0.5 * state.signal - 0.5)
        return obs, state, -jnp.square(error), last, info


PROBE = Probe()
AGENT = Watched(
    learning_rate=1e-2,
    discount=0.9,
    num_envs=4,
    rollout_steps=16,
    num_epochs=4,
    num_minibatches=2,
    hidden_sizes=(16,),
)
ITERATION = 64
NUM_STEPS = 60 * ITERATION


def train_on(probe, agent=AGENT, key=0, **options):
    """Two agents, three snapshots: one program for nearly all tests of this file."""
    return train(
        agent,
        PROBE,
        PROBES[probe] if isinstance(probe, str) else probe,
        jax.random.key(key),
        NUM_STEPS,
        num_agents=2,
        num_snapshots=3,
        **options,
    )


@jax.jit
def train_one(params, stop):
    """One agent, four iterations at most: the program of two tests."""
    key = jax.random.key(0)
    return train_once(AGENT, PROBE, params, key, num_steps=4 * ITERATION, stop=stop)


def random_rollout(steps=9, num_envs=3):
    """Reward and both kinds of ends at random."""
    numbers = np.random.default_rng(0)
    shape = (steps, num_envs)
    terminated = numbers.random(shape) < 0.2
    truncated = numbers.random(shape) < 0.2
    assert (terminated & truncated).any() and (truncated & ~terminated).any()
    rollout = Rollout(
        obs=None,
        action=None,
        reward=numbers.normal(size=shape),
        next_obs=None,
        bootstrap_weight=1 - terminated.astype(np.float32),
        done=(terminated | truncated).astype(np.float32),
    )
    return rollout, numbers.normal(size=shape), numbers.normal(size=shape)


def test_advantages_by_a_plain_loop():
    rollout, value, next_value = random_rollout()
    discount, gae_lambda = 0.9, 0.7
    expected = np.zeros_like(value)
    steps, num_envs = value.shape
    for n in range(num_envs):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                target = rollout.reward[k, n]
                weighted = rollout.bootstrap_weight[k, n] * next_value[k, n]
                target += discount * weighted
                expected[t, n] += weight * (target - value[k, n])
                if rollout.done[k, n]:
                    break
                weight *= discount * gae_lambda
    found = advantages(rollout, value, next_value, discount, gae_lambda)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("discrete", [True, False])
def test_loss_by_hand(discrete):
    """In float64 numpy, with ratios on both sides of the clip."""
    spaces = Spaces(3, 4) if discrete else Spaces(3, None, (-1.0,) * 2, (1.0,) * 2)
    agent = PPO(hidden_sizes=(8,), entropy_coef=0.3, value_coef=0.7, initial_std=0.6)
    weights = agent.init(spaces, jax.random.key(0)).weights
    weights["actor"] = MLP(3, (8,), 4 if discrete else 2, "tanh").init(
        jax.random.key(1)
    )
    numbers = np.random.default_rng(0)
    obs = numbers.normal(size=(6, 3)).astype(np.float32)
    outputs = np.float64(agent.networks(spaces)[0](weights["actor"], obs))
    value = np.float64(agent.networks(spaces)[1](weights["critic"], obs))[:, 0]
    if discrete:
        action = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 1, 2]]
        probs = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        log_prob = np.log((probs * action).sum(axis=1))
        entropy = -(probs * np.log(probs)).sum(axis=1)
    else:
        action = numbers.normal(size=(6, 2)).astype(np.float32)
        z = (action - outputs) / 0.6
        log_prob = (-0.5 * z**2 - np.log(0.6) - 0.5 * np.log(2 * np.pi)).sum(axis=1)
        entropy = np.full(6, 2 * (np.log(0.6) + 0.5 * np.log(2 * np.pi * np.e)))
    ratio = np.array([0.5, 0.9, 1.0, 1.1, 1.5, 2.0])
    advantage, target = numbers.normal(size=(2, 6))
    normalised = (advantage - advantage.mean()) / advantage.std()
    gain = np.minimum(ratio * normalised, np.clip(ratio, 0.8, 1.2) * normalised)
    expected = (
        -gain.mean() + 0.7 * 0.5 * ((value - target) ** 2).mean() - 0.3 * entropy.mean()
    )
    batch = Minibatch(
        obs, action, *map(np.float32, (log_prob - np.log(ratio), advantage, target))
    )
    loss = agent.loss(weights, spaces, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("constant reward", {(-1, 0): 1, (1, 0): 1}),
        ("reward by observation", {(-1, 0): -1, (1, 0): 1}),
        ("two steps", {(1, 0): 0.9, (1, 1): 1}),
        ("reward by action", {(1, 0): 1}),
        ("reward by both", {(-1, 0): 1, (1, 0): 1}),
        # 1 + 0.9 + 0.81 = 2.71 for an agent that takes the time limit for an end.
        ("truncation", {(-1, 0): 10, (1, 0): 10}),
        # The observation before the reset is the one to bootstrap from.
        ("truncation by observation", {(-1, 0): -10, (1, 0): 10}),
    ],
)
def test_probe_values(probe, expected):
    weights = train_on(probe).snapshots.weights
    critic = AGENT.networks(Spaces(2, 2))[1]
    for obs, value in expected.items():
        for agent in range(2):
            last = jax.tree.map(lambda leaf, i=agent: leaf[i, -1], weights["critic"])
            np.testing.assert_allclose(
                critic(last, np.float32([obs]))[0], [value], rtol=0.08
            )


def test_the_policy_takes_the_better_action():
    weights = train_on("reward by both").snapshots.weights["actor"]
    policy = AGENT.policy(Spaces(2, 2), jax.tree.map(lambda leaf: leaf[0, -1], weights))
    assert policy(np.float32([1, 0])) == 1
    assert policy(np.float32([-1, 0])) == 0


def test_continuous_actions():
    """Targets of -1 and 0 between bounds of -2 and 1, approached without noise."""
    result = train(
        PPO(**{**AGENT.__dict__, "rollout_steps": 32, "num_epochs": 8}),
        ContinuousProbe(),
        PROBES["constant reward"],
        jax.random.key(0),
        60 * 128,
    )
    for signal, target in ((-1, -1), (1, 0)):
        action = result.policy(np.float32([signal, 0]))
        assert action.shape == (1,)
        np.testing.assert_allclose(action, [target], atol=0.1)
    # Unsquashed, but never out of bounds.
    extreme = jax.tree.map(lambda leaf: 100 * leaf, result.policy)
    actions = [extreme(np.float32([signal, 0])) for signal in (-1, 1)]
    np.testing.assert_array_equal(actions, [[-2], [1]])


@pytest.mark.parametrize("discrete", [True, False])
def test_a_policy_that_samples_draws_from_its_distribution(discrete):
    spaces = Spaces(2, 3) if discrete else Spaces(2, None, (-2.0,), (4.0,))
    agent = PPO(hidden_sizes=(), initial_std=0.2, deterministic=False)
    learner = agent.init(spaces, jax.random.key(0))
    kernel = [[1.0, -1.0], [0.0, 0.5], [0.3, 0.0]][: spaces.action_size]
    actor = ({"kernel": jnp.array(kernel), "bias": jnp.zeros(spaces.action_size)},)
    weights = {"actor": actor} | {
        k: v for k, v in learner.weights.items() if k == "log_std"
    }
    policy = agent.policy(spaces, weights)
    obs, keys = jnp.array([0.4, 0.2]), jax.random.split(jax.random.key(1), 20_000)
    actions = np.asarray(jax.vmap(policy, (None, 0))(obs, keys))
    outputs = jnp.array(kernel) @ obs
    if discrete:
        shares = np.bincount(actions, minlength=3) / len(actions)
        np.testing.assert_allclose(shares, jax.nn.softmax(outputs), atol=0.012)
        assert actions.dtype == np.int32
    else:  # half of the range is 3, its middle 1
        assert actions.shape == (20_000, 1)
        np.testing.assert_allclose(actions.mean(), 1 + 3 * outputs[0], atol=0.015)
        np.testing.assert_allclose(actions.std(), 3 * 0.2, atol=0.015)


def test_one_compilation_for_all_hyperparameters():
    kernels = []
    probe = PROBES["reward by both"].replace(terminates_after=3, show_time=1.0)
    train_on(probe)
    num_traces = len(PROBE.traces)
    for changes in (
        {},
        {"learning_rate": 1e-3},
        {"discount": 0.5},
        {"gae_lambda": 0.5},
        {"clip_ratio": 0.05},
        {"entropy_coef": 0.1},
        {"value_coef": 5.0},
        {"max_grad_norm": 0.01},
    ):
        weights = train_on(probe, AGENT.replace(**changes)).policy.weights
        kernels.append(np.asarray(weights["actor"][0]["kernel"]))
    assert len(PROBE.traces) == num_traces
    for i, kernel in enumerate(kernels):  # and each of them matters
        assert not any(np.array_equal(kernel, other) for other in kernels[:i])


def test_a_member_of_a_group_equals_an_agent_alone():
    """Members share keys and differ by their environments alone."""
    names = ("truncation", "reward by both", "truncation")
    stacked = jax.tree.map(lambda *x: np.stack(x), *(PROBES[name] for name in names))
    key = jax.random.key(0)
    group = jax.jit(
        lambda params: train_group(
            AGENT, PROBE, params, 0, key, num_members=3, num_steps=4 * ITERATION
        )
    )(stacked)
    never = Solved(threshold=1e9)
    for member, name in enumerate(names[:2]):
        weights = train_one(PROBES[name], never).weights
        for leaf, other in zip(
            jax.tree.leaves(group), jax.tree.leaves(weights), strict=True
        ):
            np.testing.assert_allclose(leaf[member], other[0], atol=1e-4)
            np.testing.assert_array_equal(leaf[0], leaf[2])  # equal environments
            assert not np.allclose(leaf[0], leaf[1], atol=1e-4)


def test_same_key_same_bits_and_other_keys_other_agents():
    results = [train_on("reward by both", key=key).policy for key in (0, 0, 1)]
    for a, b, c in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a[0], a[1])  # agents of one call are independent


def test_snapshots_are_the_policies_along_the_way():
    result = train_on("constant reward")
    assert result.steps.tolist() == [20 * 64, 40 * 64, 60 * 64]
    assert result.steps_taken.tolist() == [NUM_STEPS] * 2
    assert result.episodes.tolist() == [NUM_STEPS] * 2
    for last, along in zip(
        jax.tree.leaves(result.policy), jax.tree.leaves(result.snapshots), strict=True
    ):
        np.testing.assert_array_equal(last, along[:, -1])
        assert not np.array_equal(along[:, 0], along[:, 1])


def test_steps_are_rounded_up_to_iterations_that_snapshots_share_evenly():
    """59 iterations would do, and three snapshots have 20 each."""
    probe, options = PROBES["constant reward"], {"num_agents": 2, "num_snapshots": 3}
    with pytest.warns(UserWarning, match="num_steps: 3771 is rounded up to 3840"):
        result = train(AGENT, PROBE, probe, jax.random.key(0), 3771, **options)
    assert result.steps.tolist() == [1280, 2560, 3840]
    assert result.steps_taken.tolist() == [3840, 3840]


def test_stop_rules_end_training_after_an_iteration():
    def taken(probe, stop):
        result = train_one(probe, stop)
        return int(result.steps), int(result.episodes)

    paid = PROBES["constant reward"]
    assert taken(paid, Solved(threshold=1.0)) == (64, 64)
    assert taken(paid, Solved(threshold=1.0, min_episodes=65)) == (128, 128)
    assert taken(paid, Solved(threshold=1.1)) == (256, 256)
    paid = paid.replace(terminates_after=5)
    assert taken(paid, Solved(threshold=1.0)) == (64, 12)
    # Episodes go on from one iteration to the next: 20 steps do not fit in 16.
    paid = paid.replace(terminates_after=20)
    assert taken(paid, Solved(threshold=1.0, min_episodes=1)) == (256, 12)


@pytest.mark.slow  # probe values say whether it learns right
def test_learns_cartpole():
    """Over eight keys the mean of 4 agents was 228 to 347; random play gets 22."""
    env, params = envs.make("CartPole-v1")
    policy = train(PPO(), env, params, jax.random.key(0), 3000, num_agents=4).policy
    returns = jax.jit(
        jax.vmap(lambda policy, key: evaluate(policy, env, params, key, 10).returns)
    )(policy, jax.random.split(jax.random.key(1), 4))
    assert returns.mean() > 170


def test_padded_networks_equal_small_ones():
    """A width of 5 and a depth of 1 inside two layers of 8, also after updates."""
    spaces = Spaces(3, 2)
    padded = PPO(
        hidden_sizes=(8, 8), variation=Variation(NetworkShape(width=5, depth=1), None)
    )
    small = PPO(hidden_sizes=(5,))

    def cut(layers):
        first, _, output = layers
        return (
            {"kernel": first["kernel"][:, :5], "bias": first["bias"][:5]},
            {"kernel": output["kernel"][:, :5], "bias": output["bias"]},
        )

    key = jax.random.key(0)
    numbers = np.random.default_rng(0)
    batch = Minibatch(
        obs=numbers.normal(size=(10, 3)).astype(np.float32),
        action=np.eye(2, dtype=np.float32)[numbers.integers(0, 2, 10)],
        log_prob=np.full(10, -0.7, np.float32),
        advantage=numbers.normal(size=10).astype(np.float32),
        value_target=numbers.normal(size=10).astype(np.float32),
    )
    learner = padded.init(spaces, key)
    other = small.init(spaces, key)
    weights = {name: cut(learner.weights[name]) for name in ("actor", "critic")}
    other = other.replace(weights=weights)
    update, update_small = (
        jax.jit(lambda learner, a=agent: a.learn(spaces, learner, batch))
        for agent in (padded, small)
    )
    for _ in range(3):
        for name, networks in zip(
            ("actor", "critic"),
            zip(padded.networks(spaces), small.networks(spaces), strict=True),
            strict=True,
        ):
            outputs = [
                jax.jit(network)(weights[name], batch.obs)
                for network, weights in zip(
                    networks, (learner.weights, other.weights), strict=True
                )
            ]
            np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)
            first, _, output = learner.weights[name]
            assert not np.any(first["kernel"][:, 5:]) and not np.any(first["bias"][5:])
            assert not np.any(output["kernel"][:, 5:])
        learner, other = update(learner), update_small(other)


def test_bad_arguments_are_named_before_compilation():
    task = envs.make("CartPole-v1")
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"num_minibatches must divide .* got 7"):
        train(PPO(num_minibatches=7), *task, key, 500)
    with pytest.raises(ValueError, match="needs bounded actions"):
        PPO().check(Spaces(2, None, (-np.inf,), (np.inf,)))
    with pytest.raises(ValueError, match="hidden_sizes must be one width"):
        PPO(hidden_sizes=(8, 4), variation=Variation(NetworkShape(4, 1), None)).check(
            Spaces(2, 2)
        )
    for field, value in (
        ("activation", "rleu"),
        ("hidden_sizes", (0,)),
        ("num_envs", 0),
        ("num_epochs", 0),
    ):
        with pytest.raises(ValueError, match=field):
            train(PPO(**{field: value}), *task, key, 500)

"""Intrinsic rewards: reference updates, novelty, agents of all kinds, exploration."""

import jax
import numpy as np
import pytest
import update_reference as reference
from chain_env import Chain
from probe_env import PROBES, Probe

from jaxrl_se import (
    DDQN,
    ICM,
    PPO,
    RND,
    SAC,
    TD3,
    BestResponse,
    Choice,
    Curious,
    DiscreteTD3,
    LogUniform,
    Solved,
    Spaces,
    Varied,
    evaluate,
    train,
)
from jaxrl_se.agents.replay import Batch
from jaxrl_se.agents.rnd import RunningStatistics
from jaxrl_se.presets import ferreira2022_icm
from jaxrl_se.training import train_group, train_once

TWO, THREE = Spaces(3, 2), Spaces(3, 3)
CONTINUOUS = Spaces(3, None, (-1.0, 0.0), (3.0, 0.5))
PROBE = Probe()
AGENT = DDQN(hidden_sizes=(8,), batch_size=8, learning_starts=8)
BONUS = RND(1e-3, feature_size=4, hidden_size=8)
NUM_STEPS = 150


def a_batch(spaces, num_rows=6, seed=0, shift=0.0):
    """Transitions, the last row of which is padding."""
    numbers = np.random.default_rng(seed)
    obs, next_obs = numbers.normal(shift, 1, (2, num_rows, spaces.obs_size))
    if spaces.num_actions is None:
        action = numbers.uniform(-1, 1, (num_rows, spaces.action_size))
    else:
        choice = numbers.integers(spaces.num_actions, size=num_rows)
        action = np.eye(spaces.num_actions)[choice]
    return Batch(
        obs=np.float32(obs),
        next_obs=np.float32(next_obs),
        action=np.float32(action),
        reward=np.zeros(num_rows, np.float32),
        bootstrap_weight=np.ones(num_rows, np.float32),
        mask=np.float32([1] * (num_rows - 1) + [0]),
    )


def leaky_relu(x):
    return np.where(x > 0, x, 0.01 * x)


def mlp(layers, x, activation):
    """Any number of hidden layers, `[bias, kernel]` each; output kernels [out, in]."""
    *hidden, (bias, kernel) = layers
    for hidden_bias, hidden_kernel in hidden:
        x = activation(x @ hidden_kernel + hidden_bias)
    return x @ kernel.T + bias


def pairs(arrays, sizes):
    """A flat list of biases and kernels as networks with these numbers of layers."""
    layers = list(zip(arrays[::2], arrays[1::2], strict=True))
    networks = []
    for size in sizes:
        networks.append(layers[:size])
        layers = layers[size:]
    return networks


def icm_errors(arrays, batch, action):
    """Forward errors and predicted actions; leaves are in alphabetical order."""
    after, before, blocks, features, inverse = pairs(arrays, (2, 3, 1, 3, 3))
    now, later = (mlp(features, x, leaky_relu) for x in (batch.obs, batch.next_obs))
    predicted = mlp(before, np.hstack([now, action]), leaky_relu)
    ((biases, kernels),) = blocks
    for bias, kernel in zip(biases, kernels, strict=True):
        inner = leaky_relu(np.hstack([predicted, action]) @ kernel[0].T + bias[0])
        predicted = predicted + np.hstack([inner, action]) @ kernel[1].T + bias[1]
    error = np.mean((mlp(after, predicted, leaky_relu) - later) ** 2, axis=1)
    both = np.hstack([now, later])
    return error, mlp(inverse, both, lambda x: np.maximum(x, 0))


@pytest.mark.parametrize("spaces", [TWO, THREE, CONTINUOUS], ids=["2", "3", "box"])
def test_icm_is_the_papers(spaces):
    """Loss, Adam's steps and bonus against NumPy, for each kind of actions."""
    bonus = ICM(1e-2, beta=0.3, eta=0.7, feature_size=3, hidden_size=4)
    batch = a_batch(spaces)
    state = jax.jit(bonus.init, static_argnums=0)(spaces, jax.random.key(0))
    arrays = reference.arrays(state.weights)
    adam = reference.Adam(arrays, 1e-2)
    action = np.float64(batch.action[:, 1:] if spaces is TWO else batch.action)

    def loss(arrays):
        error, output = icm_errors(arrays, batch, action)
        if spaces is TWO:
            inverse = (np.logaddexp(0, output) - action * output)[:, 0]
        elif spaces is THREE:
            chosen = np.sum(output * action, axis=1)
            inverse = np.log(np.exp(output).sum(axis=1)) - chosen
        else:
            inverse = np.mean((output - action) ** 2, axis=1)
        return np.mean((0.7 * inverse + 0.3 * error)[:-1])  # the last one is padding

    @jax.jit
    def step(state):
        loss = bonus.loss(state.weights, spaces, batch)
        state = bonus.update(spaces, state, batch)
        return loss, *bonus.rewards(spaces, state, batch)

    for _ in range(2):
        found, state, paid = step(state)
        np.testing.assert_allclose(found, loss(arrays), rtol=1e-5)
        arrays = adam.step(arrays, reference.gradient(loss, arrays))
    for leaf, expected in zip(jax.tree.leaves(state.weights), arrays, strict=True):
        # A hundredth of Adam's step: where gradients vanish it divides their rounding.
        np.testing.assert_allclose(leaf, expected, atol=1e-4)
    expected = 0.7 * icm_errors(arrays, batch, action)[0]
    np.testing.assert_allclose(paid, expected, rtol=1e-3)


def test_icm_has_the_papers_size_and_tuned_values():
    bonus = ferreira2022_icm("CartPole-v0")
    init = lambda key: bonus.init(Spaces(4, 2), key).weights  # noqa: E731
    weights = jax.eval_shape(init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == 88_289
    values = {
        ("CartPole-v0", False): (1e-5, 0.05, 0.03),
        ("CartPole-v0", True): (1e-5, 0.05, 0.03),
        ("MountainCarContinuous-v0", True): (5e-4, 0.1, 0.01),
        ("HalfCheetah-v5", False): (1e-5, 0.001, 0.1),
        ("HalfCheetah-v5", True): (1e-4, 0.05, 0.03),
    }
    for (task, ppo), (learning_rate, beta, eta) in values.items():
        expected = ICM(learning_rate, beta, eta, feature_size=32, hidden_size=128)
        assert ferreira2022_icm(task, ppo=ppo) == expected
    with pytest.raises(ValueError, match=r"task must be one of CartPole-v0, .* 'Cart'"):
        ferreira2022_icm("Cart")


def test_running_statistics_are_those_of_all_rows():
    batches = np.random.default_rng(0).normal(5, [1, 30], (4, 7, 2)).astype(np.float32)
    masks = np.float32([[1] * 7, [1, 0] * 3 + [1], [0] * 6 + [1], [1] * 7])
    statistics = RunningStatistics.init(2)
    np.testing.assert_allclose(statistics.std, 1)
    for rows, mask in zip(batches, masks, strict=True):
        statistics = statistics.update(rows, mask)
    rows = np.float64(batches[masks > 0])
    assert statistics.count == len(rows)
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.std, rows.std(axis=0), rtol=1e-6)


def test_rnd_is_the_papers():
    """Two rounds of an update and rewards against NumPy."""
    bonus = RND(1e-2, eta=0.7, obs_clip=1.5, feature_size=3, hidden_size=4)
    state = jax.jit(bonus.init, static_argnums=0)(THREE, jax.random.key(0))
    target = pairs(reference.arrays(state.target), (3,))[0]
    predictor = reference.arrays(state.predictor)
    adam = reference.Adam(predictor, 1e-2)
    mean, std, seen, all_errors = 0.0, 1.0, [], []
    step = jax.jit(
        lambda state, batch: bonus.rewards(
            THREE, bonus.update(THREE, state, batch), batch
        )
    )
    for index in range(2):
        batch = a_batch(THREE, seed=index, shift=index)

        def errors(predictor, obs=batch.next_obs):
            obs = np.clip((obs - mean) / std, -1.5, 1.5)  # noqa: B023 (called at once)
            relu = lambda x: np.maximum(x, 0)  # noqa: E731
            outputs = mlp(pairs(predictor, (4,))[0], obs, relu)
            return np.mean((outputs - mlp(target, obs, relu)) ** 2, axis=1)

        grads = reference.gradient(lambda p: np.mean(errors(p)[:-1]), predictor)
        predictor = adam.step(predictor, grads)
        seen.append(np.float64(batch.next_obs[:-1]))
        mean, std = np.vstack(seen).mean(axis=0), np.vstack(seen).std(axis=0)
        error = errors(predictor)
        all_errors.append(error[:-1])
        state, paid = step(state, batch)
        expected = 0.7 * error / np.std(all_errors)
        np.testing.assert_allclose(paid, expected, rtol=1e-3)
    found = reference.arrays(state.target)
    for a, b in zip(found, [leaf for pair in target for leaf in pair], strict=True):
        np.testing.assert_array_equal(a, b)  # the random network stays as it is


@pytest.mark.parametrize(
    "bonus",
    [
        pytest.param(ICM(1e-3), marks=pytest.mark.slow),  # `test_icm_is_the_papers`
        RND(1e-3),
    ],
    ids=["icm", "rnd"],
)
def test_what_was_seen_pays_less_than_what_was_not(bonus):
    """Over eight keys at most 0.02 of what it was; the novel at least 60 times more."""
    known, novel = a_batch(CONTINUOUS, 64), a_batch(CONTINUOUS, 64, 1, shift=3.0)

    @jax.jit
    def before_and_after(key):
        state = bonus.init(CONTINUOUS, key)

        def one(state, _):
            state = bonus.update(CONTINUOUS, state, known)
            state, paid = bonus.rewards(CONTINUOUS, state, known)
            return state, paid[:-1].mean()

        state, paid = jax.lax.scan(one, state, length=300)
        return paid, bonus.rewards(CONTINUOUS, state, novel)[1][:-1].mean()

    paid, novel_paid = before_and_after(jax.random.key(0))
    assert paid[-1] < 0.1 * paid[0]
    assert novel_paid > 20 * paid[-1]


def test_actions_as_a_bonus_sees_them():
    def seen(agent, spaces, stored):
        return agent.action_vectors(spaces, np.float32(stored)).tolist()

    assert seen(DDQN(), THREE, [[2], [0]]) == [[0, 0, 1], [1, 0, 0]]
    assert seen(SAC(), THREE, [[1]]) == [[0, 1, 0]]
    assert seen(DiscreteTD3(), TWO, [[0.2, 0.9], [1.4, 1.1]]) == [[0, 1], [1, 0]]
    assert seen(TD3(), CONTINUOUS, [[0.5, -1.0]]) == [[0.5, -1.0]]


def trained(agent, probe="reward by both", key=0, **options):
    """Two agents, three snapshots: one program for each kind of bonus."""
    probe = PROBES[probe] if isinstance(probe, str) else probe
    options = {"num_agents": 2, "num_snapshots": 3} | options
    return train(agent, PROBE, probe, jax.random.key(key), NUM_STEPS, **options)


def assert_equal(a, b, equal=True):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.array_equal(x, y) == equal


def test_one_compilation_for_all_hyperparameters():
    trained(Curious(AGENT, BONUS))
    num_traces = len(PROBE.traces)
    changes = [{}, {"learning_rate": 1e-2}, {"eta": 3.0}, {"obs_clip": 0.5}]
    kernels = [
        np.asarray(
            trained(Curious(AGENT, BONUS.replace(**change))).policy.weights[0]["kernel"]
        )
        for change in changes
    ]
    trained(Curious(AGENT.replace(learning_rate=1e-2), BONUS))
    assert len(PROBE.traces) == num_traces
    for i, kernel in enumerate(kernels):  # and each of them matters
        assert not any(np.array_equal(kernel, other) for other in kernels[:i])


def test_keys_snapshots_and_independence():
    agent = Curious(AGENT, BONUS)
    first, again, other = (trained(agent, key=key) for key in (0, 0, 1))
    assert_equal(first.policy, again.policy)
    assert_equal(first.policy, other.policy, equal=False)
    assert_equal(
        *(jax.tree.map(lambda x, i=i: x[i], first.policy) for i in (0, 1)), equal=False
    )
    assert first.steps.tolist() == [50, 100, 150]
    assert_equal(first.policy, jax.tree.map(lambda leaf: leaf[:, -1], first.snapshots))


@pytest.mark.parametrize(
    "agent",
    [
        AGENT,
        pytest.param(  # two more programs; `test_loop` trains a curious PPO
            PPO(2e-3, num_envs=5, rollout_steps=10, num_epochs=2, hidden_sizes=(8,)),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["ddqn", "ppo"],
)
def test_a_bonus_of_nothing_is_the_plain_agent(agent):
    """The agent draws the same with and without a bonus, and nothing else pays."""
    plain = trained(agent).policy.weights
    without, paid = (
        trained(Curious(agent, BONUS.replace(eta=eta))) for eta in (0.0, 1.0)
    )
    for a, b in zip(
        *map(jax.tree.leaves, (plain, without.policy.weights)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    kernels = [result[0]["kernel"] for result in (plain, paid.policy.weights)]
    assert not np.allclose(*kernels, atol=1e-4)


def test_stop_rules_do_not_see_the_bonus():
    agent = Curious(AGENT, BONUS.replace(eta=1e3))
    steps = [
        trained(
            agent, probe, stop=Solved(1.0), num_agents=1, num_snapshots=1
        ).steps_taken
        for probe in (
            PROBES["constant reward"],
            PROBES["constant reward"].replace(constant=0.9),
        )
    ]
    assert [int(step[0]) for step in steps] == [10, NUM_STEPS]


@pytest.mark.slow  # `test_a_group_shares_its_draw`, groups of DDQN and PPO
def test_members_of_a_group_differ_by_their_environments_alone():
    """Also where agent and bonus are drawn anew, which a group shares."""
    agent = Varied.of(
        AGENT,
        learning_rate=LogUniform(1e-4, 1e-2),
        width=LogUniform(2, 8, integer=True),
        batch_size=LogUniform(2, 8, integer=True),
    )
    agent = Curious(agent, Varied.of(BONUS, eta=Choice((0.1, 1.0))))
    names = ("truncation", "reward by both", "truncation")
    stacked = jax.tree.map(lambda *x: np.stack(x), *(PROBES[name] for name in names))
    group = jax.jit(
        lambda key: train_group(
            agent, PROBE, stacked, 0, key, num_members=3, num_steps=50
        )
    )
    for seed in range(2):
        weights = group(jax.random.key(seed))
        for leaf in jax.tree.leaves(weights):
            assert np.isfinite(leaf).all()
            np.testing.assert_array_equal(leaf[0], leaf[2])
        assert not np.array_equal(*weights[-1]["bias"][:2])


@pytest.mark.parametrize(
    ("agent", "continuous"),
    [
        (DDQN(dueling=True), False),
        (DiscreteTD3(), False),
        (SAC(), False),
        (PPO(), False),
        (TD3(), True),
        (SAC(), True),
        (PPO(), True),
    ],
)
def test_all_agents_in_both_spaces(agent, continuous):
    """Traced, not compiled."""
    env = Chain(continuous)
    spaces = Spaces.of(env, env.default_params)
    curious = Curious(agent, ICM())
    curious.check(spaces)
    plain, paid = (
        jax.eval_shape(
            lambda key, a=a: train_once(
                a, env, env.default_params, key, num_steps=500, spaces=spaces
            ),
            jax.random.key(0),
        )
        for a in (agent, curious)
    )
    assert plain == paid


@pytest.mark.slow
def test_curiosity_finds_what_plain_exploration_does_not():
    """Of eight agents, how many end with a policy that gets the far reward.

    Over eight keys 0 to 2 without a bonus (mean 0.8), 7 or 8 with it.
    """
    env = Chain()
    params = env.default_params
    agent = DDQN(target_update_rate=0.02, hidden_sizes=(32,), discount=0.97)
    play = jax.jit(
        jax.vmap(lambda policy: evaluate(policy, env, params, jax.random.key(1), 1))
    )

    def num_found(agent):
        key = jax.random.key(0)
        result = train(agent, env, params, key, 1000, num_agents=8)
        return int(np.sum(play(result.policy).returns > 1))

    assert num_found(agent) <= 3
    assert num_found(Curious(agent, RND())) >= 6


def test_bad_arguments_are_named_before_compilation():
    env, params = Chain(), Chain().default_params
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"agent: Curious needs .* got BestResponse"):
        train(Curious(BestResponse(), RND()), env, params, key, 10)
    with pytest.raises(ValueError, match=r"agent: Curious needs .* got Curious"):
        train(Curious(Curious(AGENT, RND()), RND()), env, params, key, 10)
    with pytest.raises(ValueError, match="obs_size: RND has no such hyperparameter"):
        Varied.of(RND(), obs_size=Choice((1,)))
    with pytest.raises(ValueError, match="TD3 needs continuous actions"):
        train(Curious(TD3(), RND()), env, params, key, 10)
    with pytest.raises(ValueError, match="activation must be one of"):
        train(Curious(AGENT, RND(activation="rleu")), env, params, key, 10)
    for bonus in (ICM, RND):
        for name in ("feature_size", "hidden_size"):
            with pytest.raises(ValueError, match=f"{name} must be .*1, got 0"):
                train(Curious(AGENT, bonus(**{name: 0})), env, params, key, 10)

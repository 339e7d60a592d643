"""SAC: reference updates, exact soft values, entropy, shapes, learning."""

import jax
import jax.numpy as jnp
import numpy as np
import probe_env
import pytest
import scipy.special
import scipy.stats
import update_reference as reference
from continuous_probe import HIGH, LOW, PROBES, ContinuousProbe, best_action
from flax import struct

import envs
from jaxrl_se import SAC, Spaces, evaluate, train
from jaxrl_se.agents.off_policy import Progress, Variation
from jaxrl_se.agents.replay import Batch
from jaxrl_se.agents.sac import sample
from jaxrl_se.networks import NetworkShape
from jaxrl_se.training import train_group, train_once

PROBE, DISCRETE_PROBE = ContinuousProbe(), probe_env.Probe()
SPACES, DISCRETE = Spaces.of(PROBE, PROBE.default_params), Spaces(2, 2)
NUM_STEPS = 1500


@struct.dataclass
class OpenSAC(SAC):
    """Its training returns the whole learner, so that tests see the critics."""

    def learned_weights(self, spaces, learner):
        return learner


# Next to no entropy in the values, which then are those of the task.
COLD = OpenSAC(
    learning_rate=3e-3,
    discount=0.9,
    target_update_rate=0.05,
    initial_temperature=1e-6,
    hidden_sizes=(32,),
    batch_size=32,
    buffer_size=1000,
    learning_starts=500,
)
WARM = COLD.replace(initial_temperature=0.1)


@jax.jit
def _train_continuous(agent, params, key):
    return _last(
        train_once(agent, PROBE, params, key, num_steps=NUM_STEPS, spaces=SPACES)
    )


@jax.jit
def _train_discrete(agent, params, key):
    return _last(train_once(agent, DISCRETE_PROBE, params, key, num_steps=NUM_STEPS))


def _last(trained):
    return jax.tree.map(lambda leaf: leaf[-1], trained.weights)


def train_on(probe, agent=COLD, key=0):
    """One program for all tests with continuous actions; returns the learner."""
    probe = PROBES[probe] if isinstance(probe, str) else probe
    return jax.device_get(_train_continuous(agent, probe, jax.random.key(key)))


def values(learner, action, signal, time=0):
    """Q of both critics for an action in [-1, 1]."""
    obs, action = np.float32([[signal, time]]), np.float32([action])
    network = COLD.critic(SPACES)
    critics = learner.weights.critics
    return np.ravel([network(weights, obs, action) for weights in critics])


@pytest.mark.parametrize(
    ("probe", "time", "expected"),
    [
        ("constant reward", 0, (1, 1)),
        ("two steps", 0, (0.9, 0.9)),
        ("two steps", 1, (1, 1)),
        ("truncation", 0, (10, 10)),
        ("truncation by observation", 0, (-10, 10)),
    ],
)
def test_probe_values(probe, time, expected):
    learner = train_on(probe)
    for signal, value in zip((-1, 1), expected, strict=True):
        found = values(learner, (0.1, -0.1), signal, time)
        np.testing.assert_allclose(found, value, rtol=0.1)


def test_the_actor_finds_the_best_action():
    """Agents err by 0.045 of the range (root mean square, 10 seeds), on either side."""
    errors = []
    for seed in range(8):
        learner = train_on("reward by both", key=seed)
        policy = SAC(hidden_sizes=(32,)).policy(SPACES, learner.weights.actor)
        actions = [policy(np.float32([signal, 0])) for signal in (-1, 1)]
        best = [best_action(signal) for signal in (-1, 1)]
        errors.append((np.array(actions) - np.array(best)) / (HIGH - LOW))
    np.testing.assert_allclose(errors, 0, atol=0.15)
    np.testing.assert_allclose(np.mean(errors, axis=0), 0, atol=0.05)


def test_discrete_values_and_entropy():
    """Values of both actions are learned, and the policy's entropy is as asked for."""
    agent = WARM.replace(target_entropy_ratio=0.5, learning_starts=32)
    probe = probe_env.PROBES["reward by both"]
    learner = _train_discrete(agent, probe, jax.random.key(0))
    obs = np.float32([[-1, 0], [1, 0]])
    for critic in learner.weights.critics:
        q = agent.critic(DISCRETE)(critic, obs)
        np.testing.assert_allclose(q, [[1, -1], [-1, 1]], atol=0.1)
    logits = agent.actor(DISCRETE)(learner.weights.actor, obs)
    probs = scipy.special.softmax(logits, axis=1)
    entropy = scipy.stats.entropy(probs, axis=1).mean()
    np.testing.assert_allclose(entropy, 0.5 * np.log(2), rtol=0.1)
    # The best policy for these values is the softmax of Q over the temperature.
    temperature = np.exp(learner.weights.log_temperature)
    expected = scipy.special.softmax(np.float32([[1, -1], [-1, 1]]) / temperature, 1)
    np.testing.assert_allclose(probs, expected, atol=0.05)
    policy = agent.policy(DISCRETE, learner.weights.actor)
    assert [int(policy(row)) for row in obs] == [0, 1]


def a_batch(spaces, num_rows):
    """Transitions, half of them with a fractional bootstrap."""
    draws = iter(np.random.default_rng(0).normal(size=(5, num_rows, 8)))
    batch = Batch(
        obs=np.float32(next(draws)[:, : spaces.obs_size]),
        next_obs=np.float32(next(draws)[:, : spaces.obs_size]),
        action=np.float32(np.tanh(next(draws)[:, :2])),
        reward=np.float32(next(draws)[:, 0]),
        bootstrap_weight=np.float32([1, 0.75, 1, 0] * num_rows)[:num_rows],
        mask=np.ones(num_rows, np.float32),
    )
    if spaces.num_actions is None:
        return batch
    return batch.replace(action=np.float32(batch.action[:, :1] > 0))


@pytest.mark.parametrize(
    "spaces", [Spaces(3, None, (-1.0, 0.0), (3.0, 0.5)), Spaces(3, 2)]
)
def test_updates_are_the_papers(spaces):
    """Three updates against NumPy, the three losses one by one."""
    agent = SAC(
        learning_rate=1e-2,
        discount=0.9,
        target_update_rate=0.1,
        initial_temperature=0.3,
        target_entropy_ratio=0.7,
        hidden_sizes=(4,),
        activation="tanh",
        batch_size=6,
    )
    discrete = spaces.num_actions is not None
    batch = a_batch(spaces, 6)
    target_entropy = 0.7 * np.log(2) if discrete else -2.0

    def soft_value(actor, critics, temperature, obs, normal):
        outputs = reference.mlp(actor, obs)
        if discrete:
            log_probs = scipy.special.log_softmax(outputs, axis=1)
            q = np.min([reference.mlp(critic, obs) for critic in critics], axis=0)
            probs = np.exp(log_probs)
            value = (probs * (q - temperature * log_probs)).sum(axis=1)
            return value, -scipy.stats.entropy(probs, axis=1)
        mean, log_std = outputs[:, :2], outputs[:, 2:]
        before = mean + np.exp(log_std) * normal
        log_prob = scipy.stats.norm.logpdf(before, mean, np.exp(log_std))
        log_prob = (log_prob - np.log(1 - np.tanh(before) ** 2)).sum(axis=1)
        inputs = np.concatenate([obs, np.tanh(before)], axis=1)
        q = np.min([reference.mlp(critic, inputs)[:, 0] for critic in critics], axis=0)
        return q - temperature * log_prob, log_prob

    def taken(critic):
        if discrete:
            q = reference.mlp(critic, batch.obs)
            return q[np.arange(6), batch.action[:, 0].astype(int)]
        inputs = np.concatenate([batch.obs, batch.action], axis=1)
        return reference.mlp(critic, inputs)[:, 0]

    learner = agent.init(spaces, jax.random.key(0))
    actor = reference.arrays(learner.weights.actor)
    critics = [reference.arrays(critic) for critic in learner.weights.critics]
    targets = [list(critic) for critic in critics]
    log_temperature = [np.log([0.3])]
    adams = [
        reference.Adam(network, 1e-2) for network in (actor, *critics, log_temperature)
    ]
    update = jax.jit(agent.learn, static_argnums=0)
    for index in range(3):
        uniform = np.random.default_rng(index).uniform(size=(2, 6, 2))
        draws = uniform[..., :0] if discrete else uniform
        learner = update(spaces, learner, batch, jnp.float32(draws).ravel())
        normal = scipy.stats.norm.ppf(uniform)
        temperature = np.exp(log_temperature[0][0])
        value, _ = soft_value(actor, targets, temperature, batch.next_obs, normal[0])
        target = batch.reward + 0.9 * batch.bootstrap_weight * value
        _, log_prob = soft_value(actor, critics, temperature, batch.obs, normal[1])

        def critic_loss(critic, target=target):
            return np.mean((taken(critic) - target) ** 2)

        def actor_loss(
            actor, critics=critics, args=(temperature, batch.obs, normal[1])
        ):
            return -np.mean(soft_value(actor, critics, *args)[0])

        def temperature_loss(weights, log_prob=log_prob):
            return -np.exp(weights[0][0]) * np.mean(log_prob + target_entropy)

        losses = (actor_loss, critic_loss, critic_loss, temperature_loss)
        networks = (actor, *critics, log_temperature)
        grads = [
            reference.gradient(loss, network)
            for loss, network in zip(losses, networks, strict=True)
        ]
        actor, *critics, log_temperature = (
            adam.step(network, grad)
            for adam, network, grad in zip(adams, networks, grads, strict=True)
        )
        targets = [
            reference.towards(old, new, 0.1)
            for old, new in zip(targets, critics, strict=True)
        ]
    expected = [*actor, *critics[0], *critics[1], *log_temperature]
    expected += [*targets[0], *targets[1]]
    found = jax.tree.leaves((learner.weights, learner.target_critics))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_density_of_extreme_samples_is_finite_and_right():
    outputs = np.float32([[0.5, -1.0], [8.0, 0.0], [-30.0, 3.0]])
    normal = np.float32([[0.3], [0.0], [-1.0]])
    unit, log_prob = sample(outputs, normal)
    before = 0.5 + np.exp(-1.0) * 0.3
    np.testing.assert_allclose(unit[0], np.tanh(before), rtol=1e-6)
    density = scipy.stats.norm.pdf(before, 0.5, np.exp(-1.0))
    expected = np.log(density / (1 - np.tanh(before) ** 2))
    np.testing.assert_allclose(log_prob[0], expected, rtol=1e-5)
    # 1 - tanh(8)^2 has lost most digits in float32, and 1 - tanh(-37)^2 all of them.
    expected = scipy.stats.norm.logpdf(0) - (np.log(4) - 16)
    np.testing.assert_allclose(log_prob[1], expected, rtol=1e-5)
    assert np.isfinite(log_prob[2])
    density = lambda outputs: sample(outputs, normal)[1].sum()  # noqa: E731
    grad = jax.jit(jax.grad(density))(outputs)
    assert np.isfinite(grad).all()


def test_exploring_actions_stay_within_asymmetric_bounds():
    learner = WARM.init(SPACES, jax.random.key(0))
    uniform = jax.random.uniform(jax.random.key(1), (2000, 2))
    obs = 30 * jnp.ones(2)  # spreads of many units: most samples are at the bounds
    for step in (0, WARM.learning_starts):
        progress = Progress(jnp.int32(step), jnp.int32(0))
        act = jax.vmap(lambda u, p: WARM.explore(SPACES, learner, obs, u, p), (0, None))
        action, stored = jax.device_get(jax.jit(act)(uniform, progress))
        assert (action >= LOW).all()
        assert (action <= HIGH).all()
        scaled = LOW + (stored + 1) / 2 * (HIGH - LOW)
        np.testing.assert_allclose(action, scaled, atol=1e-6)
        if step == 0:
            spread = (HIGH - LOW) / 12**0.5
            np.testing.assert_allclose(action.std(axis=0), spread, rtol=0.05)


def test_discrete_actions_are_draws_from_the_policy():
    spaces, agent = Spaces(3, 4), SAC(hidden_sizes=(8,))
    learner = agent.init(spaces, jax.random.key(0))
    uniform = jax.random.uniform(jax.random.key(1), (4000, 4))
    logits = agent.actor(spaces)(learner.weights.actor, 3 * jnp.ones(3))
    for step, expected in ((0, [0.25] * 4), (1000, jax.nn.softmax(logits))):
        progress = Progress(jnp.int32(step), jnp.int32(0))
        act = jax.vmap(
            lambda u, p: agent.explore(spaces, learner, 3 * jnp.ones(3), u, p),
            (0, None),
        )
        action, _ = jax.jit(act)(uniform, progress)
        frequencies = np.bincount(action, minlength=4) / 4000
        np.testing.assert_allclose(frequencies, expected, atol=0.03)


@pytest.mark.slow  # of DDQN and PPO it is not; updates follow each number
def test_one_compilation_for_all_hyperparameters():
    kernels = []
    probe = PROBES["reward by both"].replace(terminates_after=3, show_time=1.0)
    train_on(probe)
    num_traces = len(PROBE.traces)
    for changes in (
        {},
        {"learning_rate": 1e-2},
        {"discount": 0.5},
        {"target_update_rate": 0.5},
        {"initial_temperature": 0.5},
        {"learning_starts": 300},
        {"updates_per_step": 0.5},
    ):
        learner = train_on(probe, COLD.replace(**changes))
        kernels.append(learner.weights.critics[0][0]["kernel"])
    assert len(PROBE.traces) == num_traces
    for i, kernel in enumerate(kernels):  # and each of them matters
        assert not any(np.array_equal(kernel, other) for other in kernels[:i])


def test_same_key_same_bits_and_other_keys_other_agents():
    results = [train_on("reward by both", key=key) for key in (0, 0, 1)]
    for a, b, c in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.int32 or not np.array_equal(a, c)


@pytest.mark.slow  # the same code as in `test_ddqn` and `test_ppo`
def test_a_member_of_a_group_equals_an_agent_alone():
    late = COLD.replace(learning_starts=NUM_STEPS - 200)  # Rounding grows slowly.
    names = ("truncation", "reward by both", "truncation")
    stacked = jax.tree.map(lambda *x: np.stack(x), *(PROBES[name] for name in names))
    budget = {"num_members": 3, "num_steps": NUM_STEPS, "spaces": SPACES}
    group = jax.jit(
        lambda agent, params, key: train_group(agent, PROBE, params, 0, key, **budget)
    )(late, stacked, jax.random.key(0))
    singles = [train_on(name, late) for name in names[:2]]
    for leaf, *others in zip(*map(jax.tree.leaves, (group, *singles)), strict=True):
        np.testing.assert_array_equal(leaf[0], leaf[2])  # equal environments
        for member, single in zip(leaf, others, strict=False):
            np.testing.assert_allclose(member, single, atol=1e-4)


def small_of(weights, width):
    """The used part of padded weights with two hidden layers of which one is active."""
    first, _, output = weights
    return (
        {"kernel": first["kernel"][:, :width], "bias": first["bias"][:width]},
        {"kernel": output["kernel"][:, :width], "bias": output["bias"]},
    )


@pytest.mark.slow  # padding is that of `test_td3` and `test_ppo`
def test_sizes_inside_padded_shapes_equal_the_small_agent():
    """Width 5 of 8, depth 1 of 2 and 7 rows of 12 are the small agent's update."""
    spaces = Spaces(3, None, (-1.0, 0.0), (3.0, 0.5))
    variation = Variation(NetworkShape(5, 1), 7)
    padded = SAC(hidden_sizes=(8, 8), batch_size=12, variation=variation)
    small = SAC(hidden_sizes=(5,), batch_size=7)
    start, start_small = (
        jax.jit(agent.init, static_argnums=0)(spaces, jax.random.key(0))
        for agent in (padded, small)
    )
    critics = tuple(small_of(weights, 5) for weights in start.weights.critics)
    actor = small_of(start.weights.actor, 5)
    start_small = start_small.replace(
        weights=start.weights.replace(actor=actor, critics=critics),
        target_critics=critics,
    )
    batch = a_batch(spaces, 12)
    rows = jax.tree.map(lambda leaf: leaf[:7], batch)
    batch = batch.replace(mask=np.float32([1] * 7 + [0] * 5))
    uniform = np.float32(np.random.default_rng(0).uniform(size=(2, 12, 2)))
    update, update_small = (
        jax.jit(agent.learn, static_argnums=0) for agent in (padded, small)
    )
    for _ in range(3):
        start = update(spaces, start, batch, uniform.ravel())
        start_small = update_small(spaces, start_small, rows, uniform[:, :7].ravel())
    for weights, expected in zip(
        (start.weights.actor, *start.target_critics),
        (start_small.weights.actor, *start_small.target_critics),
        strict=True,
    ):
        found = jax.tree.leaves(small_of(weights, 5))
        for a, b in zip(found, jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert (weights[0]["kernel"][:, 5:] == 0).all()
        assert (weights[2]["kernel"][:, 5:] == 0).all()


@pytest.mark.slow
def test_learns_pendulum():
    """The mean of 24 agents was -426, the worst -885; random play gets -1217."""
    env, params = envs.make("Pendulum-v1")
    agent = SAC(
        learning_rate=5e-3,
        discount=0.9,
        target_update_rate=0.05,
        batch_size=64,
    )
    policy = train(agent, env, params, jax.random.key(0), 3000, num_agents=8).policy
    returns = jax.jit(
        jax.vmap(lambda policy, key: evaluate(policy, env, params, key, 10).returns)
    )(policy, jax.random.split(jax.random.key(1), 8))
    assert returns.mean() > -800


def test_bad_arguments_are_named_before_compilation():
    task, key = envs.make("Pendulum-v1"), jax.random.key(0)
    with pytest.raises(ValueError, match="SAC needs finite action bounds"):
        SAC().check(Spaces(3, None, (-np.inf,), (np.inf,)))
    for field, value in (
        ("activation", "rleu"),
        ("hidden_sizes", (0,)),
        ("batch_size", 0),
        ("buffer_size", 0),
        ("num_critics", 0),
    ):
        with pytest.raises(ValueError, match=field):
            train(SAC(**{field: value}), *task, key, 10)

"""TD3, DDPG, discrete TD3: reference updates, exact values, shapes, learning."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import probe_env
import pytest
import scipy.stats
import update_reference as reference
from continuous_probe import HIGH, LOW, PROBES, ContinuousProbe, best_action
from flax import struct

import envs
from jaxrl_se import DDPG, DDQN, TD3, DiscreteTD3, Spaces, evaluate, train
from jaxrl_se.agents.off_policy import Progress, Variation
from jaxrl_se.agents.replay import Batch
from jaxrl_se.networks import NetworkShape
from jaxrl_se.training import train_group, train_once

PROBE, DISCRETE_PROBE = ContinuousProbe(), probe_env.Probe()
SPACES = Spaces.of(PROBE, PROBE.default_params)
NUM_STEPS = 1500


@struct.dataclass
class OpenTD3(TD3):
    """Its training returns the whole learner, so that tests see the critics."""

    def learned_weights(self, spaces, learner):
        return learner


@struct.dataclass
class OpenDiscreteTD3(DiscreteTD3):
    """Likewise."""

    def learned_weights(self, spaces, learner):
        return learner


AGENT = OpenTD3(
    learning_rate=3e-3,
    discount=0.9,
    target_update_rate=0.05,
    exploration_noise=0.5,
    hidden_sizes=(32,),
    batch_size=32,
    buffer_size=1000,
)
DISCRETE = OpenDiscreteTD3(
    learning_rate=3e-3,
    discount=0.9,
    target_update_rate=0.05,
    exploration_noise=0.3,
    hidden_sizes=(16,),
    batch_size=32,
)


@jax.jit
def _train(agent, params, key):
    env = DISCRETE_PROBE if isinstance(agent, DiscreteTD3) else PROBE
    spaces = _spaces(agent)
    trained = train_once(agent, env, params, key, num_steps=NUM_STEPS, spaces=spaces)
    return jax.tree.map(lambda leaf: leaf[-1], trained.weights)


def _spaces(agent):
    return Spaces(2, 2) if isinstance(agent, DiscreteTD3) else SPACES


def train_on(probe, agent=AGENT, key=0):
    """One program for nearly all tests of a kind of agent; returns its learner."""
    if isinstance(probe, str):
        probe = (probe_env.PROBES if isinstance(agent, DiscreteTD3) else PROBES)[probe]
    return jax.device_get(_train(agent, probe, jax.random.key(key)))


def values(learner, action, signal, time=0, agent=AGENT):
    """Q of both critics for an action in [-1, 1], or a choice's vector."""
    obs, action = np.float32([[signal, time]]), np.float32(action)[None]
    return np.ravel(agent.values(_spaces(agent), learner.critics, obs, action))


@pytest.mark.parametrize(
    ("probe", "time", "expected"),
    [
        ("constant reward", 0, (1, 1)),
        ("two steps", 0, (0.9, 0.9)),
        ("two steps", 1, (1, 1)),
        # 1 + 0.9 + 0.81 = 2.71 for an agent that takes the time limit for an end.
        ("truncation", 0, (10, 10)),
        # The observation before the reset is the one to bootstrap from.
        ("truncation by observation", 0, (-10, 10)),
    ],
)
def test_probe_values(probe, time, expected):
    learner = train_on(probe)
    for signal, value in zip((-1, 1), expected, strict=True):
        q = values(learner, (0.5, 0.5), signal, time)
        np.testing.assert_allclose(q, value, rtol=0.05)


def test_the_actor_finds_the_best_action():
    learner = train_on("reward by both")
    policy = AGENT.policy(SPACES, learner.actor)
    for signal in (-1, 1):
        best = best_action(signal)
        action = policy(np.float32([signal, 0]))
        np.testing.assert_allclose((action - best) / (HIGH - LOW), 0, atol=0.05)
        unit = np.float32([0.5, -0.5]) * signal
        np.testing.assert_allclose(values(learner, unit, signal), 1, atol=0.1)
        # Half a unit off in each dimension costs 2 * 0.5**2.
        np.testing.assert_allclose(values(learner, (0, 0), signal), 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("two steps", {(1, 0): (0.9, 0.9), (1, 1): (1, 1)}),
        ("reward by both", {(-1, 0): (1, -1), (1, 0): (-1, 1)}),
        ("truncation", {(-1, 0): (10, 10)}),
    ],
)
def test_probe_values_of_discrete_actions(probe, expected):
    learner = train_on(probe, DISCRETE)
    for (signal, time), q in expected.items():
        for choice, value in zip(np.eye(2), q, strict=True):
            found = values(learner, choice, signal, time, DISCRETE)
            np.testing.assert_allclose(found, value, atol=0.1 * np.abs(q).max())
    if probe == "reward by both":
        policy = DISCRETE.policy(Spaces(2, 2), learner.actor)
        assert [int(policy(np.float32([s, 0]))) for s in (-1, 1)] == [0, 1]


def a_batch(spaces, action_size, num_rows):
    """Transitions, half of them with a fractional bootstrap."""
    draws = iter(np.random.default_rng(0).normal(size=(5, num_rows, 8)))
    return Batch(
        obs=np.float32(next(draws)[:, : spaces.obs_size]),
        next_obs=np.float32(next(draws)[:, : spaces.obs_size]),
        action=np.float32(np.tanh(next(draws)[:, :action_size])),
        reward=np.float32(next(draws)[:, 0]),
        bootstrap_weight=np.float32([1, 0.75, 1, 0] * num_rows)[:num_rows],
        mask=np.ones(num_rows, np.float32),
    )


@pytest.mark.parametrize("kind", ["TD3", "DDPG", "hard", "soft", "learned temperature"])
def test_updates_are_the_papers(kind):
    """Three updates against NumPy: noise, minimum, delay, targets, both Adams."""
    sizes = {"hidden_sizes": (4,), "activation": "tanh", "batch_size": 6}
    numbers = {"learning_rate": 1e-2, "discount": 0.9, "target_update_rate": 0.1}
    discrete = kind not in ("TD3", "DDPG")
    if discrete:
        spaces = Spaces(3, 2)
        agent = DiscreteTD3(
            gumbel_temperature=0.7,
            gumbel_hard=kind == "hard",
            learn_gumbel_temperature=kind == "learned temperature",
            target_noise=0.4,
            **sizes,
            **numbers,
        )
    else:
        spaces = Spaces(3, None, (-1.0, 0.0), (3.0, 0.5))
        noise = {"target_noise": 0.4} if kind == "TD3" else {}
        agent = {"TD3": TD3, "DDPG": DDPG}[kind](**sizes, **numbers, **noise)
    batch = a_batch(spaces, 2, 6)

    def act(actor, obs, uniform, noise=0.0):
        if not discrete:
            return np.clip(np.tanh(reference.mlp(actor, obs)) + noise, -1, 1)
        *layers, temperature = actor
        logits = reference.mlp(layers, obs) + scipy.stats.gumbel_r.ppf(uniform)
        exp = np.exp(logits / temperature)
        return exp / exp.sum(axis=1, keepdims=True) + noise

    def value(critic, obs, action):
        return reference.mlp(critic, np.concatenate([obs, action], axis=1))[:, 0]

    learner = agent.init(spaces, jax.random.key(0))
    actor = reference.arrays(learner.actor)
    critics = [reference.arrays(critic) for critic in learner.critics]
    targets = [list(network) for network in (actor, *critics)]
    adams = [reference.Adam(network, 1e-2) for network in (actor, *critics)]
    update = jax.jit(agent.learn, static_argnums=0)
    for index in range(3):
        draws = np.random.default_rng(index).uniform(size=(6, 6 if discrete else 2))
        noise = agent.target_noise * scipy.stats.norm.ppf(draws[:, 2:4])
        if not discrete:
            noise = agent.target_noise * scipy.stats.norm.ppf(draws)
        learner = update(spaces, learner, batch, jnp.float32(draws).ravel())
        if kind == "hard":  # not differentiable by differences: shapes and finiteness
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learner))
            continue
        action = act(
            targets[0], batch.next_obs, draws[:, :2], np.clip(noise, -0.5, 0.5)
        )
        bootstrap = np.min(
            [value(critic, batch.next_obs, action) for critic in targets[1:]], axis=0
        )
        target = batch.reward + 0.9 * batch.bootstrap_weight * bootstrap

        def critic_loss(critic, target=target):
            error = value(critic, batch.obs, batch.action) - target
            return np.mean(error**2)

        critics = [
            adam.step(critic, reference.gradient(critic_loss, critic))
            for adam, critic in zip(adams[1:], critics, strict=True)
        ]
        if (index + 1) % agent.policy_delay == 0:

            def actor_loss(actor, draws=draws, critic=critics[0]):
                action = act(actor, batch.obs, draws[:, 4:])
                return -np.mean(value(critic, batch.obs, action))

            grads = reference.gradient(actor_loss, actor)
            if kind == "soft":
                grads[-1] = np.zeros_like(grads[-1])
            actor = adams[0].step(actor, grads)
            targets = [
                reference.towards(old, new, 0.1)
                for old, new in zip(targets, (actor, *critics), strict=True)
            ]
    if kind == "hard":
        return
    found = (learner.actor, learner.critics, learner.target_actor)
    expected = (actor, [*itertools.chain(*critics)], targets[0])
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(jax.tree.leaves(ours), theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


def test_hard_samples_are_one_hot_with_the_soft_gradient():
    spaces, uniform = Spaces(3, 4), np.linspace(0.1, 0.9, 20).reshape(5, 4)
    obs = np.sin(np.arange(15, dtype=np.float32)).reshape(5, 3)
    weights = DiscreteTD3().init_actor(spaces, jax.random.key(0))

    grad = np.cos(np.arange(20, dtype=np.float32)).reshape(5, 4)

    def sample(hard):
        agent = DiscreteTD3(gumbel_hard=hard)

        @jax.jit
        def both(weights):
            actor = lambda w: agent.sample(spaces, w, obs, uniform)  # noqa: E731
            found, vjp = jax.vjp(actor, weights)
            return found, vjp(grad)

        return jax.device_get(both(weights))

    (hard, hard_grad), (soft, soft_grad) = sample(True), sample(False)
    np.testing.assert_allclose(hard, np.eye(4)[np.argmax(soft, axis=1)], atol=1e-6)
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
    for a, b in zip(
        jax.tree.leaves(hard_grad), jax.tree.leaves(soft_grad), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_exploring_actions_stay_within_asymmetric_bounds():
    agent = AGENT.replace(exploration_noise=1.0)
    learner = agent.init(SPACES, jax.random.key(0))
    uniform = jax.random.uniform(jax.random.key(1), (2000, 2))

    def actions(step):
        progress = Progress(jnp.int32(step), jnp.int32(0))
        act = lambda u: agent.explore(SPACES, learner, jnp.ones(2), u, progress)  # noqa: E731
        action, stored = jax.device_get(jax.jit(jax.vmap(act))(uniform))
        scaled = LOW + (stored + 1) / 2 * (HIGH - LOW)
        np.testing.assert_allclose(action, scaled, atol=1e-6)
        return np.asarray(action)

    random, noisy = actions(agent.learning_starts - 1), actions(agent.learning_starts)
    for action in (random, noisy):
        assert (action >= LOW).all()
        assert (action <= HIGH).all()
    # Uniform at first; then noise of half the range, which is clipped at both ends.
    np.testing.assert_allclose(random.mean(axis=0), (LOW + HIGH) / 2, atol=0.1)
    np.testing.assert_allclose(random.std(axis=0), (HIGH - LOW) / 12**0.5, rtol=0.05)
    for bound in (LOW, HIGH):
        share = np.isclose(noisy, bound, atol=1e-6).mean(axis=0)
        assert (share > 0.05).all()


def test_discrete_actions_and_what_is_stored():
    spaces = Spaces(3, 4)
    learner = DiscreteTD3().init(spaces, jax.random.key(0))
    uniform = jax.random.uniform(jax.random.key(1), (4000, 8))

    def actions(step, **changes):
        agent = DiscreteTD3(**changes)
        progress = Progress(jnp.int32(step), jnp.int32(0))
        act = lambda u: agent.explore(spaces, learner, jnp.ones(3), u, progress)  # noqa: E731
        action, stored = jax.device_get(jax.jit(jax.vmap(act))(uniform))
        np.testing.assert_array_equal(action, np.argmax(stored, axis=1))
        return action, stored

    action, stored = actions(0)
    np.testing.assert_array_equal(stored, np.eye(4)[action])
    np.testing.assert_allclose(np.bincount(action) / 4000, 0.25, atol=0.03)
    _, stored = actions(1000)
    noise = stored - np.eye(4)[np.argmax(stored, axis=1)]
    np.testing.assert_allclose(noise.std(), 0.1, rtol=0.05)
    # Without noise the choice is a draw from the softmax of the logits.
    action, _ = actions(1000, exploration_noise=0.0)
    logits = DiscreteTD3().actor(spaces)(learner.actor["logits"], jnp.ones(3))
    frequencies = np.bincount(action, minlength=4) / 4000
    np.testing.assert_allclose(frequencies, jax.nn.softmax(logits), atol=0.03)


@pytest.mark.slow  # of DDQN and PPO it is not; updates follow each number
def test_one_compilation_for_all_hyperparameters():
    kernels = []
    probe = PROBES["reward by both"].replace(terminates_after=3, show_time=1.0)
    train_on(probe)
    num_traces = len(PROBE.traces)
    for changes in (
        {},
        {"learning_rate": 1e-2},
        {"target_update_rate": 0.5},
        {"exploration_noise": 0.1},
        {"target_noise": 0.0},
        {"target_noise_clip": 0.1},
        {"policy_delay": 1},
        {"policy_delay": 3},
        {"learning_starts": 300},
        {"discount": 0.5},
        {"updates_per_step": 0.5},
    ):
        learner = train_on(probe, AGENT.replace(**changes))
        kernels.append(learner.critics[0][0]["kernel"])
    assert len(PROBE.traces) == num_traces
    for i, kernel in enumerate(kernels):  # and each of them matters
        assert not any(np.array_equal(kernel, other) for other in kernels[:i])


def test_same_key_same_bits_and_other_keys_other_agents():
    results = [train_on("reward by both", key=key) for key in (0, 0, 1)]
    for a, b, c in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 0 or not np.array_equal(a, c)


@pytest.mark.slow  # the same code as in `test_ddqn` and `test_ppo`
def test_a_member_of_a_group_equals_an_agent_alone():
    late = AGENT.replace(learning_starts=NUM_STEPS - 200)  # Rounding grows slowly.
    names = ("truncation", "reward by both", "truncation")
    stacked = jax.tree.map(lambda *x: np.stack(x), *(PROBES[name] for name in names))
    group = jax.jit(
        lambda agent, params, key: train_group(
            agent,
            PROBE,
            params,
            0,
            key,
            num_members=3,
            num_steps=NUM_STEPS,
            spaces=SPACES,
        )
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


def test_sizes_inside_padded_shapes_equal_the_small_agent():
    """Width 5 of 8, depth 1 of 2 and 7 rows of 12 are the small agent's update."""
    spaces = Spaces(3, None, (-1.0, 0.0), (3.0, 0.5))
    variation = Variation(NetworkShape(5, 1), 7)
    padded = TD3(
        hidden_sizes=(8, 8), batch_size=12, policy_delay=1, variation=variation
    )
    small = TD3(hidden_sizes=(5,), batch_size=7, policy_delay=1)
    learner = jax.jit(padded.init, static_argnums=0)(spaces, jax.random.key(0))
    actor = small_of(learner.actor, 5)
    critics = tuple(small_of(weights, 5) for weights in learner.critics)
    start = jax.jit(small.init, static_argnums=0)(spaces, jax.random.key(0)).replace(
        actor=actor, critics=critics, target_actor=actor, target_critics=critics
    )
    batch = a_batch(spaces, 2, 12)
    rows = jax.tree.map(lambda leaf: leaf[:7], batch)
    batch = batch.replace(mask=np.float32([1] * 7 + [0] * 5))
    uniform = np.float32(np.random.default_rng(0).uniform(size=(12, 2)))
    update, update_small = (
        jax.jit(agent.learn, static_argnums=0) for agent in (padded, small)
    )
    for _ in range(3):
        learner = update(spaces, learner, batch, uniform.ravel())
        start = update_small(spaces, start, rows, uniform[:7].ravel())
    pairs = [(learner.actor, start.actor)]
    pairs += [*zip(learner.target_critics, start.target_critics, strict=True)]
    for weights, expected in pairs:
        found = small_of(weights, 5)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert (weights[0]["kernel"][:, 5:] == 0).all()
        assert (weights[2]["kernel"][:, 5:] == 0).all()


@pytest.mark.slow
def test_learns_pendulum():
    """Over eight keys the mean of 8 agents was -556 to -226; random play gets -1217."""
    env, params = envs.make("Pendulum-v1")
    agent = TD3(
        learning_rate=3e-3,
        discount=0.95,
        target_update_rate=0.03,
        exploration_noise=0.3,
    )
    policy = train(agent, env, params, jax.random.key(0), 3000, num_agents=8).policy
    returns = jax.jit(
        jax.vmap(lambda policy, key: evaluate(policy, env, params, key, 10).returns)
    )(policy, jax.random.split(jax.random.key(1), 8))
    assert returns.mean() > -800


def test_ddpg_is_td3_with_other_defaults():
    agent = DDPG(learning_rate=1e-4, hidden_sizes=(8,))
    assert agent.num_critics == 1
    assert agent.policy_delay == 1
    assert agent.target_noise == 0.0
    assert len(agent.init(SPACES, jax.random.key(0)).critics) == 1


def test_bad_arguments_are_named_before_compilation():
    pendulum, cartpole = envs.make("Pendulum-v1"), envs.make("CartPole-v1")
    key = jax.random.key(0)
    with pytest.raises(
        ValueError, match=r"TD3 needs continuous actions, .* 2 discrete"
    ):
        train(TD3(), *cartpole, key, 10)
    with pytest.raises(ValueError, match="DDPG needs continuous actions"):
        train(DDPG(), *cartpole, key, 10)
    with pytest.raises(ValueError, match="DiscreteTD3 needs discrete actions"):
        train(DiscreteTD3(), *pendulum, key, 10)
    with pytest.raises(ValueError, match="DDQN needs discrete actions"):
        train(DDQN(), *pendulum, key, 10)
    with pytest.raises(ValueError, match="TD3 needs finite action bounds"):
        TD3().check(Spaces(3, None, (-np.inf,), (np.inf,)))
    for field, value in (
        ("activation", "rleu"),
        ("hidden_sizes", (0,)),
        ("batch_size", 0),
        ("buffer_size", 0),
        ("num_critics", 0),
        ("policy_delay", 0),
    ):
        with pytest.raises(ValueError, match=field):
            train(TD3(**{field: value}), *pendulum, key, 10)

"""The reference's prior: its golden trajectories and its statistics."""

import jax
import numpy as np
import pytest

from oswm.prior import paper
from oswm.prior.momentum import Momentum
from oswm.prior.random_networks import NUM_HIDDEN, RandomNetwork

pytestmark = pytest.mark.slow  # of the published model, as `test_paper_model`
KINDS = {"sin": 0, "cos": 1, "x": 2, "y": 3, "rad": 4}


def slots_of(num_networks, num_pairs):
    """Our slots in the order of the reference's state."""
    slots = list(range(num_networks))
    for k in range(num_pairs):
        slots += [9 - 2 * k, 10 - 2 * k]
    return np.array(slots)


def read_network(env, name, columns, num_inputs):
    w_in = np.zeros((NUM_HIDDEN, num_inputs), np.float32)
    if f"{name}/W_in" not in env:
        zeros = np.zeros((NUM_HIDDEN, NUM_HIDDEN), np.float32)
        return RandomNetwork(w_in, zeros, zeros[0], np.array(False), np.array(False))
    w_in[:, columns] = env[f"{name}/W_in"]
    return RandomNetwork(
        w_in,
        env[f"{name}/W_h"],
        env[f"{name}/W_out"][0],
        np.array(str(env[f"{name}/act_in"]) == "sin"),
        np.array(str(env[f"{name}/act_h"]) == "sin"),
    )


def read_pair(env, k):
    def get(name, default):
        return env.get(f"pair{k}/{name}", np.array(default))

    inverted = bool(get("invert", False))
    kind = KINDS[str(get("type", "x"))]
    return Momentum(
        kind=np.array(kind),
        control=np.eye(paper.NUM_ACTIONS, dtype=np.float32)[int(get("ctrl", 0))],
        velocity_sign=np.float32(-1 if inverted else 0),
        has_gravity=get("gravity", False),
        gravity=np.float32(get("g", 0)),
        damping=np.float32(get("damp", 1)),
        elasticity=np.float32(get("elasticity", 0)),
        offset=np.float32(np.pi * (kind == 4 and bool(get("only_positive", False)))),
    )


def read_task(env):
    num_pairs, size = int(env["n_pairs"]), int(env["obs_size"])
    num_networks, action_dim = size - 2 * num_pairs, int(env["action_dim"])
    slots = slots_of(num_networks, num_pairs)
    actions = np.arange(action_dim)
    stack = lambda trees: jax.tree.map(lambda *x: np.stack(x), *trees)  # noqa: E731
    choices = np.zeros(4, np.float32)
    found = env.get("discrete_choices", np.zeros(0))
    choices[: len(found)] = found
    task = paper.PaperTask(
        networks=stack(
            [
                read_network(env, f"nn{i}", np.r_[slots, 11 + actions], 14)
                for i in range(paper.NUM_STATES)
            ]
        ),
        pairs=stack([read_pair(env, k) for k in range(paper.MAX_PAIRS)]),
        reward=read_network(
            env, "reward_nn", np.r_[slots, 11 + slots, 22 + actions], 25
        ),
        num_networks=np.array(num_networks),
        num_pairs=np.array(num_pairs),
        constant_reward=env["constant_reward"],
        is_discrete=env["discrete"],
        num_choices=np.array(len(found)),
        choices=choices,
        action_dim=np.array(action_dim),
        bound=np.float32(1),
        reset_scale=np.ones(11, np.float32),
        reset_offset=np.float32(0),
    )
    return task, slots


def test_golden_trajectories(golden):
    data = golden("momentum_env_golden.npz")

    @jax.jit
    def replay(task, state, actions):
        def step(state, action):
            state, reward = paper.step_paper(task, state, action)
            return state, (state.obs, reward)

        return jax.lax.scan(step, state, actions)[1]

    worst = 0.0
    for number in range(12):
        prefix = f"env{number}/"
        env = {k[len(prefix) :]: v for k, v in data.items() if k.startswith(prefix)}
        task, slots = read_task(env)
        obs = np.zeros(11, np.float32)
        obs[slots] = env["obs0"]
        pairs = range(int(env["n_pairs"]))
        latent = np.zeros((2, paper.MAX_PAIRS), np.float32)
        for k in pairs:
            latent[:, k] = env[f"pair{k}/pos0_latent"], env[f"pair{k}/vel0_latent"]
        actions = np.zeros((51, 3), np.float32)
        actions[:, : int(env["action_dim"])] = env["actions_raw"]
        found, rewards = replay(task, paper.PaperState(obs, *latent), actions)
        np.testing.assert_allclose(found[:, slots], env["obs"], atol=1e-5)
        np.testing.assert_allclose(rewards, env["reward"], atol=1e-5)
        worst = max(worst, np.abs(found[:, slots] - env["obs"]).max())
    assert worst > 0  # float32 against the reference: equal bits would be suspicious


@pytest.fixture(scope="module")
def datasets():
    draw = jax.jit(jax.vmap(paper.draw_paper_dataset))
    return jax.device_get(draw(jax.random.split(jax.random.key(1), 160)))


def test_live_columns_and_the_loss_of_zeros(datasets):
    inputs, targets = datasets
    live = (np.abs(targets).max(1) > 0).sum(-1)
    assert 6.2 < live.mean() < 7.1  # 6.69 by counting
    assert 0.44 < np.square(targets).mean() < 0.51
    size = np.abs(inputs)
    of_live = np.concatenate([x[:, x.max(0) > 0].ravel() for x in size])
    found = np.quantile(of_live, [0.5, 0.9, 0.99, 0.999])  # resets are outliers
    np.testing.assert_allclose(found, [0.50, 1.39, 2.61, 8.5], rtol=0.05)


@pytest.fixture(scope="module")
def tasks():
    draw = jax.jit(jax.vmap(paper.init_paper_task))
    return jax.device_get(draw(jax.random.split(jax.random.key(2), 2000)))


def test_half_of_the_velocities_are_hidden(tasks):
    hidden = np.asarray(tasks.pairs.velocity_sign == 0)
    assert abs(hidden.mean() - 0.5) < 0.03
    num_pairs = np.asarray(tasks.num_pairs)
    assert abs((num_pairs == 0).mean() - 0.267) < 0.03
    assert abs((np.asarray(tasks.num_networks) == 0).mean() - 0.106) < 0.03
    assert abs(num_pairs.mean() - 1.61) < 0.1


@pytest.fixture(scope="module")
def rollouts(tasks):
    """Twenty episodes of 160 tasks, and which of their columns are networks."""
    some = jax.tree.map(lambda x: x[:160], tasks)
    roll = jax.jit(jax.vmap(lambda key, task: paper.rollout_paper(key, task, 20 * 51)))
    rows = roll(jax.random.split(jax.random.key(3), 160), some)
    is_network = jax.jit(jax.vmap(lambda task: task.is_network))(some)
    return jax.device_get((rows, is_network))


def test_network_dimensions_contract_after_the_reset(rollouts):
    rows, is_network = rollouts
    std = rows.obs.reshape(-1, 20, 51, 11).std(1)
    medians = [np.median(std[:, t][is_network]) for t in (0, 1)]
    late = np.median(np.moveaxis(std[:, 3:], 1, 2)[is_network])
    assert 2.2 < medians[0] < 3.2  # 2.68 in the reference
    assert 0.6 < medians[1] < 0.9  # 0.73
    assert 0.28 < late < 0.40  # 0.30 to 0.37


def test_ridge_on_the_context(datasets):
    inputs, targets = (np.asarray(x, np.float64) for x in datasets)
    errors = []
    for x, y in zip(inputs, targets, strict=True):
        # One-hot columns for what looks like an index: few values in an action column.
        hot = [np.ones((len(x), 1)), x]
        for column in x[:, 11:].T:
            values = np.unique(column)
            if 1 < len(values) <= 4:
                hot.append((column[:, None] == values).astype(float))
        x = np.concatenate(hot, 1)
        a, b = x[:810], y[:810]
        weights = np.linalg.solve(a.T @ a + 1e-3 * np.eye(a.shape[1]), a.T @ b)
        errors.append(np.square(x[810:] @ weights - y[810:]).mean())
    assert 0.03 < np.mean(errors) < 0.05  # .039 in the reference
    assert 0.018 < np.median(errors) < 0.036  # .027


def test_context_lengths():
    draw = jax.jit(jax.vmap(paper.draw_context_length))
    lengths = np.asarray(draw(jax.random.split(jax.random.key(4), 4000)))
    assert lengths.min() >= 500 and lengths.max() <= 999
    assert abs(lengths.mean() - 809) < 8
    assert abs((lengths >= 900).mean() - 0.371) < 0.03


def test_rewards_are_the_networks_or_one(rollouts):
    rows, _ = rollouts
    std = rows.reward.std(1)
    assert abs((std == 0).mean() - 0.5) < 0.12
    assert 0.3 < np.median(std[std > 0]) < 0.6  # 0.44 in the reference
    assert np.isfinite(rows.next_obs).all()

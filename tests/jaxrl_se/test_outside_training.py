"""Agents that train in tasks outside JAX, and reward networks that evolve there."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from jaxrl_se import (
    DDPG,
    PPO,
    BestResponse,
    EvolutionConfig,
    Plateau,
    RewardConfig,
    evolve,
)
from jaxrl_se.outside_task import SpacesOnly
from jaxrl_se.outside_training import train_batch, train_outside

# Every test has four agents and a full buffer: few programs.
AGENT = DDPG(
    hidden_sizes=(16,),
    batch_size=16,
    learning_starts=20,
    buffer_size=60,
    learning_rate=1e-2,
    discount=0.5,
    target_update_rate=0.1,
)


class Aim(gymnasium.Env):
    """Where to aim is seen; the reward is minus the square of the miss.

    An episode ends after as many steps as its seed says, one to four.
    """

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    fails_at = None

    def _look(self):
        self.target = self.np_random.uniform(-1, 1)
        return np.array([self.target, self.left / 4], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 5))
        return self._look(), {}

    def step(self, action):
        self.left -= 1
        miss = float(action[0]) - self.target
        if self.fails_at == self.left:
            raise ValueError("a bolt came loose")
        return self._look(), -(miss**2), self.left == 0, False, {}


def aim(**changes):
    cls = type("Aim", (Aim,), changes)
    return envs.external(cls, engine="gymnasium", name="Aim")


@pytest.fixture(scope="module")
def trained():
    task = aim()
    return task, train_outside(AGENT, task, 0, 600, num_agents=4)


def test_agents_learn_where_to_aim(trained):
    task, result = trained
    episodes, _ = task.play(result.policy, 5, 40, num_axes=1)
    mean = episodes.returns.sum(axis=1) / episodes.lengths.sum(axis=1)
    assert (mean > -0.05).all()  # at random -2/3, in the middle -1/3
    # 600 steps in episodes of 2.5: every end was seen, and none twice.
    assert (np.abs(np.asarray(result.episodes) - 240) < 30).all()
    assert result.steps_taken.tolist() == [600] * 4
    assert result.steps.tolist() == [600]


def test_the_same_key_gives_the_same_agents(trained):
    _, result = trained
    again = train_outside(AGENT, aim(), 0, 600, num_agents=4)
    jax.tree.map(np.testing.assert_array_equal, result.policy, again.policy)
    weights = jax.tree.leaves(result.policy)[0]
    assert (weights[0] != weights[1]).any()


def test_lanes_go_on_one_by_one():
    task = aim()
    keys = jax.random.split(jax.random.key(0), 3)
    lanes = task.ongoing(keys)
    first, left = [], lanes.obs[:, 1] * 4
    for _ in range(12):
        before = lanes.obs
        outcome = lanes.step(np.zeros((3, 1), np.float32))
        np.testing.assert_allclose(outcome.reward, -(before[:, 0] ** 2), rtol=1e-5)
        left = left - 1
        np.testing.assert_array_equal(outcome.terminated, left == 0)
        np.testing.assert_allclose(outcome.obs[:, 1] * 4, left)
        for lane in np.flatnonzero(outcome.terminated):
            assert (lanes.obs[lane] != outcome.obs[lane]).all()
            first.append(lanes.obs[lane, 0])
            left[lane] = lanes.obs[lane, 1] * 4
    assert len(set(first)) == len(first) > 5
    # What a lane shows does not depend on the others.
    alone, seen = task.ongoing(keys[:1]), []
    for _ in range(12):
        seen.append(alone.obs[0])
        alone.step(np.zeros((1, 1), np.float32))
    again = task.ongoing(keys)
    for obs in seen:
        np.testing.assert_array_equal(again.obs[0], obs)
        again.step(np.zeros((3, 1), np.float32))


def test_a_time_limit_from_outside_truncates():
    task = envs.external(lambda: Aim(), engine="gymnasium", name="Aim", time_limit=2)
    lanes = task.ongoing(jax.random.split(jax.random.key(1), 4))
    time = np.zeros(4)
    for _ in range(8):
        outcome = lanes.step(np.zeros((4, 1), np.float32))
        time += 1
        assert not (outcome.terminated & outcome.truncated).any()
        over = outcome.terminated | outcome.truncated
        assert (time[outcome.truncated] == 2).all() and (time <= 2).all()
        time[over] = 0


def test_an_agent_of_several_environments_that_learns_from_rollouts():
    task = envs.external("CartPole-v1", engine="gymnasium")
    agent = PPO(num_envs=2, rollout_steps=10, num_minibatches=2)
    result = train_outside(agent, task, 0, 40)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.policy))
    assert result.policy(task.observation_space().sample()).shape == ()
    assert result.episodes.shape == () and 0 <= result.episodes <= 4


def test_what_cannot_train_is_refused():
    with pytest.raises(
        RuntimeError, match=r"'Aim': lane \d: step raised ValueError: a"
    ):
        train_outside(AGENT, aim(fails_at=0), 0, 60, num_agents=4)
    with pytest.raises(ValueError, match=r"must take steps .* got a BestResponse"):
        train_outside(BestResponse(), aim(), 0, 40)
    with pytest.raises(TypeError, match="task must be a task outside JAX"):
        train_outside(AGENT, "Pendulum-v1", 0, 40)  # type: ignore
    pair = envs.make("Pendulum-v1")
    vector = envs.external(envs.GymnasiumVectorEnv(*pair, num_envs=1), time_limit=200)
    with pytest.raises(TypeError, match="must be an id or a function"):
        train_outside(AGENT, vector, 0, 40)
    with pytest.raises(ValueError, match="num_envs of task 'Aim' must be at least 4"):
        task = envs.external(Aim, 1, engine="gymnasium", name="Aim")
        train_outside(AGENT, task, 0, 60, num_agents=4)
    pairs = pair, (lambda obs: 0.0), (pair[0], pair[1], 0)
    for reward in pairs:
        with pytest.raises(TypeError, match="reward must be a reward network's pair"):
            train_outside(AGENT, aim(), 0, 40, reward=reward)  # type: ignore
    other: Any = RewardConfig("additive", ()).make(*pair)
    with pytest.raises(ValueError, match="reward must be for the spaces of task 'Aim'"):
        train_outside(AGENT, aim(), 0, 40, reward=other)


def test_reward_networks_pay_beside_the_task():
    task = aim()
    config = RewardConfig("additive", (), obs_range=None)
    made: Any = config.make(SpacesOnly(task), None)
    env, params = made
    keys = jax.random.split(jax.random.key(0), 4)
    plain, _ = train_batch(AGENT, task, keys, 60)
    zeros = jax.tree.map(lambda x: jnp.zeros((4, *x.shape)), params.weights)
    ones = jax.tree.map(lambda x: x.at[1].set(1.0), zeros)  # the second agent's
    for weights, same in ((zeros, [True] * 4), (ones, [True, False, True, True])):
        reward = env, params.replace(weights=weights)
        found, _ = train_batch(AGENT, task, keys, 60, reward=reward)
        leaves = zip(jax.tree.leaves(plain), jax.tree.leaves(found), strict=True)
        close = np.array([np.isclose(a, b).reshape(4, -1).all(1) for a, b in leaves])
        assert close.all(axis=0).tolist() == same
    # One network for all agents, here one that pays nothing.
    reward = env, params.replace(weights=jax.tree.map(jnp.zeros_like, params.weights))
    found = train_outside(
        AGENT, task, jax.random.key(0), 60, num_agents=4, reward=reward
    )
    expected = AGENT.policy(task.spaces, plain)
    jax.tree.map(np.testing.assert_allclose, found.policy, expected)


CONFIG = EvolutionConfig(
    proxy=RewardConfig("additive", (4,), obs_range=None),
    agent=AGENT,
    train_steps=60,
    population_size=4,
    num_seeds=1,
    fitness_episodes=2,
    max_generations=2,
    stop_return=-100.0,  # any agent's
    validation_every=2,
    validation_agents=4,
    validation_episodes=2,
)


def test_reward_networks_evolve_outside_jax():
    task = aim()
    result = evolve(task, CONFIG, 0, progress=False)
    assert result.validation is not None and -10 < result.validation < 0
    first, second = result.progress.rows
    # Four agents of 60 steps, and two episodes of each.
    for steps in (first["real_steps"], second["real_steps"] - first["real_steps"]):
        assert steps >= 4 * 60 + 4 * 2
    assert 4 * 60 + 8 <= first["real_steps"] <= 4 * 60 + 32
    assert result.progress.synthetic_steps == 0
    _, episodes = result.test(jax.random.key(1), 3)
    assert episodes.returns.shape == (3, 2)
    again = evolve(aim(), CONFIG, 0, progress=False)
    jax.tree.map(np.testing.assert_array_equal, result.params, again.params)


def test_reward_networks_of_tasks_outside_jax_can_be_kept(tmp_path):
    made: Any = CONFIG.proxy.make(SpacesOnly(aim()), None)
    path = jaxrl_se.save(tmp_path / "aim", *made)
    env, params = jaxrl_se.load(path, task=aim())
    assert env == made[0]
    jax.tree.map(np.testing.assert_array_equal, params, made[1])


def test_what_cannot_evolve_is_refused():
    info = CONFIG.replace(proxy=RewardConfig("additive-info", obs_range=None))
    with pytest.raises(ValueError, match="kind must be one without info"):
        evolve(aim(), info, 0)
    with pytest.raises(ValueError, match="stop must be None"):
        evolve(aim(), CONFIG.replace(stop=Plateau()), 0)
    with pytest.raises(ValueError, match="must take steps"):
        evolve(aim(), CONFIG.replace(agent=BestResponse()), 0)

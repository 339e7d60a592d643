"""What holds for every agent: a training can be cut anywhere, saved, run by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import probe_env
import pytest
from continuous_probe import ContinuousProbe
from flax import struct
from tiny import AGENTS, CONTINUOUS, NUM_STEPS, OPTIONS, PROBE, SIZES

import jaxrl_se
from jaxrl_runs.weight_files import WeightFileError
from jaxrl_se import (
    DDQN,
    TD3,
    Agent,
    Solved,
    TaskTest,
    advance,
    start,
)


def same(a, b):
    """Whether two pytrees hold the same bits; NaN is NaN."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


# Cut like DDQN and PPO; their own files train, `test_curiosity` traces them.
LIKEWISE = ("DiscreteTD3", "SAC", "TD3", "continuous SAC", "continuous PPO")
LIKEWISE += ("curious PPO",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in LIKEWISE))
        for name in AGENTS
    ],
)
def test_a_training_can_be_cut_anywhere(name, tmp_path):
    """20 steps, saved, loaded, 40 more: the bits of 60 at once, by one program."""
    agent, task = AGENTS[name]
    state = first = start(agent, *task, 1, **OPTIONS)
    state, _ = advance(agent, *task, state, 20)
    num_traces = len(probe_env.Probe.traces), len(ContinuousProbe.traces)
    jaxrl_se.save_state(tmp_path / "state.npz", state)
    loaded = jaxrl_se.load_state(tmp_path / "state.npz", first)
    same(loaded, state)
    parts, metrics = advance(agent, *task, loaded, 40)
    whole, _ = advance(agent, *task, first, NUM_STEPS)
    assert num_traces == (len(probe_env.Probe.traces), len(ContinuousProbe.traces))
    whole = whole.replace(finished_return=parts.finished_return)  # type: ignore
    same(parts, whole)
    steps = 0 if name == "best response" else 40
    assert int(metrics.steps) == steps
    assert all(np.isfinite(x) for x in metrics.agent.values())
    weights = agent.policy_weights(parts.spaces, parts.agent)
    check_policy(agent.policy(parts.spaces, weights), parts.spaces.obs_size)


def check_policy(policy, obs_size):
    """It is a callable that jit takes as it is, and vmap."""
    obs = np.eye(2, obs_size, dtype=np.float32)
    expected = np.stack([policy(x, None) for x in obs])
    found = jax.vmap(policy, (0, None))(obs, None)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(policy)(obs[0], None), expected[0], rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["DDQN", "PPO", pytest.param("varied", marks=pytest.mark.slow)],  # DDQN inside
)
def test_advancing_is_what_train_does(name):
    """From the same seed; `train` keeps snapshots on the way."""
    agent, task = AGENTS[name]
    state = start(agent, *task, 1, **OPTIONS)
    result = jaxrl_se.train(agent, *task, 1, **OPTIONS)
    for index in range(3):
        state, _ = advance(agent, task, state, num_steps=NUM_STEPS // 3)
        weights = agent.policy_weights(state.spaces, state.agent)
        kept = result.snapshots.weights
        for a, b in zip(*map(jax.tree.leaves, (weights, kept)), strict=True):
            np.testing.assert_allclose(a, b[index], rtol=1e-4, atol=1e-5)
    assert int(result.episodes) == int(state.episodes)


@pytest.mark.parametrize(
    "name",
    ["DDQN", "PPO", pytest.param("SARSA", marks=pytest.mark.slow)],  # off-policy too
)
def test_a_python_loop_over_single_calls_is_the_same_training(name):
    """For tasks outside JAX: the agent's functions, one after the other."""
    agent, (env, params) = AGENTS[name]
    state = start(agent, env, params, 3, **OPTIONS)
    after, _ = advance(agent, env, params, state, 20)
    act, observe, update = (
        jax.jit(method, static_argnums=0)
        for method in (agent.act, agent.observe, agent.update)
    )
    spaces, own, count = state.spaces, state.agent, agent.num_envs
    obs, env_state = state.obs, state.env_state
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    for index in range(20 // state.chunk // (count * agent.rollout_steps)):
        key = jax.random.fold_in(state.keys[0], index)
        key_env, *keys = jax.random.split(key, 3)
        shape = (state.chunk, agent.rollout_steps, count)
        keys_env = jax.random.split(key_env, math.prod(shape)).reshape(shape)
        for_act, for_update = agent.draw(spaces, *keys, state.chunk)
        for i in range(state.chunk):
            for t in range(agent.rollout_steps):
                draw = jax.tree.map(lambda x, i=i, t=t: x[i, t], for_act)
                action, kept = act(spaces, own, obs, draw)
                next_obs, env_state, reward, terminated, truncated, info = step(
                    keys_env[i, t], env_state, action, params
                )
                transition = jaxrl_se.Transition(
                    obs=obs,
                    action=kept,
                    reward=reward,
                    next_obs=info["final_observation"],
                    bootstrap_weight=1.0 - terminated,
                    done=terminated | truncated,
                )
                own, obs = observe(spaces, own, transition), next_obs
            draw = jax.tree.map(lambda x, i=i: x[i], for_update)
            own = update(spaces, own, draw)
    for a, b in zip(*map(jax.tree.leaves, (own, after.agent)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@struct.dataclass
class Recorder(Agent):
    """Learns nothing; its state is what it observed in the last round."""

    num_envs: int = struct.field(pytree_node=False, default=3)
    rollout_steps: int = struct.field(pytree_node=False, default=4)

    def start(self, spaces, key, *, num_steps, env=None, params=None):
        shape = (self.rollout_steps, self.num_envs)
        return {
            "reward": jnp.zeros(shape),
            "done": jnp.zeros(shape, bool),
            "time": jnp.int32(0),
        }

    def act(self, spaces, state, obs, draw):
        action = jax.random.randint(draw, (self.num_envs,), 0, 2)
        return action, action

    def observe(self, spaces, state, transition):
        time = state["time"]
        return {
            "reward": state["reward"].at[time].set(transition.reward),
            "done": state["done"].at[time].set(transition.done),
            "time": time + 1,
        }

    def update(self, spaces, state, draw):
        return state | {"time": jnp.int32(0)}

    def policy_weights(self, spaces, state):
        return state["reward"]

    def policy(self, spaces, weights):
        return jaxrl_se.RandomPolicy(spaces)


def test_stop_rules_and_metrics_see_every_episode_by_step_then_environment():
    agent, stop = Recorder(), Solved(10.0, window=12)
    task = (PROBE[0], probe_env.PROBES["reward by action"])
    state = start(agent, *task, 0, num_steps=24, stop=stop)
    returns = []
    for _ in range(2):
        state, metrics = advance(agent, *task, state, 12, stop=stop)
        assert state.agent["done"].all()
        returns += state.agent["reward"].ravel().tolist()
        np.testing.assert_allclose(metrics.episode_return, np.mean(returns[-12:]))
        assert int(metrics.episodes) == int(metrics.steps) == 12
        assert state.stopping.returns.tolist() == returns[::-1][:12]
    assert len(set(returns)) == 2


@pytest.mark.parametrize(
    "num_envs",
    [pytest.param(1, marks=pytest.mark.slow), 4],  # of one, `test_ddqn` and others
)
def test_updates_do_not_depend_on_the_number_of_environments(num_envs):
    """Half an update per step, from step 12 on, however many are stepped at once."""
    agent = TD3(**SIZES, num_envs=num_envs, updates_per_step=0.5)
    agent = agent.replace(learning_starts=12)  # type: ignore
    state = start(agent, *CONTINUOUS, 0, **OPTIONS)
    state, _ = advance(agent, *CONTINUOUS, state, NUM_STEPS)
    assert int(state.agent.learner.num_updates) == 24
    rows = np.asarray(state.agent.buffer["packed"])
    assert rows.shape[0] == NUM_STEPS and rows.any(axis=1).all()


def test_a_stopped_training_stays_stopped():
    agent, (env, params) = AGENTS["QLearning"]
    test = TaskTest(params, solved_return=-1e9, env=env, window=1, num_points=2)
    state = start(agent, env, params, 0, num_steps=2000, test=test)
    state, metrics = advance(agent, env, params, state, 1000, test=test)
    assert 0 < int(metrics.steps) < 1000
    again, metrics = advance(agent, env, params, state, 1000, test=test)
    assert int(metrics.steps) == 0 and np.isnan(metrics.episode_return)
    same(again.agent, state.agent)
    with pytest.raises(ValueError, match=r"test must be what start was given, .* one"):
        advance(agent, env, params, state, 1000)


def test_a_state_of_another_training_is_refused(tmp_path):
    agent, task = AGENTS["QLearning"]
    state = start(agent, *task, 0, num_steps=20)
    path = jaxrl_se.save_state(tmp_path / "state.npz", state)
    with pytest.raises(WeightFileError, match="num_steps must be 40, got 20"):
        jaxrl_se.load_state(path, start(agent, *task, 0, num_steps=40))
    other, task = AGENTS["DDQN"]
    with pytest.raises(WeightFileError, match="spaces must be"):
        jaxrl_se.load_state(path, start(other, *task, 0, num_steps=20))
    agent = AGENTS["PPO"][0]
    with pytest.warns(UserWarning, match="num_steps: 25 is rounded up to 30"):
        state = start(agent, *PROBE, 0, num_steps=25)
    assert state.num_steps == 30
    with pytest.raises(ValueError, match=r"multiple of PPO's .* \(10\), .* got 25"):
        advance(agent, *PROBE, state, 25)
    with pytest.warns(UserWarning, match="num_steps: 12 is rounded up to 15"):
        start(AGENTS["five environments"][0], *PROBE, 0, num_steps=12)
    with pytest.raises(ValueError, match="num_envs must be at most buffer_size"):
        start(DDQN(num_envs=5, buffer_size=4), *PROBE, 0, num_steps=10)


def test_policies_with_and_without_memory():
    @dataclasses.dataclass
    class Counts:
        def start(self):
            return 0

        def step(self, memory, obs, key):
            return memory % 2, memory + 1

    begin, step = jaxrl_se.with_memory(Counts())
    memory, actions = begin(), []
    for _ in range(3):
        action, memory = step(memory, None, None)
        actions.append(action)
    assert actions == [0, 1, 0]
    begin, step = jaxrl_se.with_memory(lambda obs, key: obs + 1)
    assert step(begin(), 1, None) == (2, ())

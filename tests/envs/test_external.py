"""Tasks outside JAX: exact semantics, and faults injected one kind at a time."""

import time

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
from envs.engines import SpaceChangedError
from jaxrl_se import RandomPolicy, evaluate


class Counter(gymnasium.Env):
    """Pays 1 for every step and ends after some that its seed decides.

    Observation: steps taken, steps to take, the seed. With `faults`, a step (by the
    number of environments made before, and its number in the episode) goes wrong.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)
    made = 0

    def __init__(self, fault=None, truncates=False, only=0, limit=None):
        self._fault, self._truncates, self._limit = fault, truncates, limit
        self._faulty = only is None or Counter.made == only
        Counter.made += 1

    def _obs(self):
        return np.array([self._time, self._length, self._seed % 1000], np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._seed, self._time = seed or 0, 0
        self._length = self._limit or int(self.np_random.integers(2, 9))
        return self._obs(), {}

    def step(self, action):
        self._time += 1
        obs, reward = self._obs(), 1.0
        if self._faulty and self._time == 2:
            match self._fault:
                case "raises":
                    raise OSError("the cable is out")
                case "nan":
                    obs[1] = np.nan
                case "nan reward":
                    reward = np.nan
                case "hangs":
                    time.sleep(3)
                case "shape":
                    obs = np.zeros(4)
        over = self._time == self._length
        return obs, reward, over and not self._truncates, over and self._truncates, {}


@pytest.fixture(autouse=True)
def fresh():
    Counter.made = 0


def zero(obs, key):
    return jnp.int32(0)


def counters(num_envs=4, **kwargs):
    # The first one made is looked at for its spaces, and becomes the first lane.
    return envs.external(lambda: Counter(**kwargs), num_envs, timeout=1.0)


def test_episodes_are_counted_once_whatever_the_number_of_lanes():
    played = {n: counters(n).play(zero, 3, 10) for n in (1, 4, 10, 64)}
    episodes, steps = played[1]
    assert 2 <= episodes.lengths.min() < episodes.lengths.max() <= 8
    np.testing.assert_array_equal(episodes.returns, episodes.lengths)
    for others, other_steps in played.values():
        np.testing.assert_array_equal(others.returns, episodes.returns)
        assert other_steps == steps == envs.Steps(real=int(episodes.lengths.sum()))
    assert episodes.returns.dtype == np.float32
    assert episodes.lengths.dtype == np.int32


@pytest.mark.parametrize("mode", list(gymnasium.vector.AutoresetMode))
def test_vector_environments_of_every_mode_of_autoreset(mode):
    vector = gymnasium.vector.SyncVectorEnv([Counter] * 4, autoreset_mode=mode)
    expected, _ = counters().play(zero, 3, 10)
    np.testing.assert_array_equal(
        evaluate(zero, vector, 3, 10).returns, expected.returns
    )
    rows = envs.collect(vector, 30, 0)
    ends = np.flatnonzero(rows.terminated)
    # The last observation of an episode is its own, not the next one's first.
    np.testing.assert_array_equal(rows.next_obs[ends, 0], rows.obs[ends, 1])
    assert (rows.next_obs[:, 0] == rows.obs[:, 0] + 1).all()
    assert (rows.obs[ends[:-1] + 1, 0] == 0).all()


def test_termination_and_truncation_are_kept_apart():
    terminated = envs.collect(counters(), 30, 0)
    truncated = envs.collect(counters(truncates=True), 30, 0)
    assert terminated.terminated.any() and not terminated.truncated.any()
    assert truncated.truncated.any() and not truncated.terminated.any()
    limited = envs.external(lambda: Counter(limit=7), time_limit=5)
    episodes, _ = limited.play(zero, 0, 3)
    assert episodes.lengths.tolist() == [5, 5, 5] and limited.time_limit == 5
    rows = envs.collect(limited, 12, 0)
    assert np.flatnonzero(rows.truncated).tolist() == [4, 9]
    assert not rows.terminated.any()


@struct.dataclass
class Threshold:
    at: jax.Array

    def __call__(self, obs, key):
        return (obs[2] > self.at).astype(jnp.int32)


def test_batches_of_policies_and_the_same_keys():
    task = envs.external("CartPole-v1", 7, engine="gymnasium")
    policies = Threshold(jnp.float32([[-9, 0, 0.01], [9, 0, -0.01]]))
    episodes, steps = task.play(policies, 0, 5)
    assert episodes.returns.shape == (2, 3, 5)
    assert steps.real == episodes.lengths.sum() == task.cost.steps
    keys = jax.random.split(jax.random.key(0), (2, 3))
    alone, _ = task.play(Threshold(jnp.float32(0)), keys[1, 1], 5)
    np.testing.assert_array_equal(alone.returns, episodes.returns[1, 1])
    assert episodes.returns[0, 1].mean() > 2 * episodes.returns[0, 0].mean()
    same = jnp.broadcast_to(jax.random.key(4), (2, 3))
    returns = task.play(policies, same, 5)[0].returns
    np.testing.assert_array_equal(returns[0, 1], returns[1, 1])
    assert 0 < task.cost.engine_share < 1 and task.cost.steps_per_second > 0
    assert "steps at" in str(task.cost)


def test_it_is_the_same_task_as_inside_jax():
    """The returns of random actions, whose keys are the same inside and outside."""
    policy = RandomPolicy(envs.Spaces(4, 2))
    inside = evaluate(policy, "CartPole-v1", 0, 50).returns
    outside = evaluate(policy, envs.external("CartPole-v1", engine="gymnasium"), 0, 50)
    assert abs(np.mean(inside) - outside.returns.mean()) < 6  # a deviation is 12 / 7


def test_policies_of_python():
    def by_numpy(obs, key):
        return int(np.asarray(obs)[2] > 0)

    task = envs.external("CartPole-v1", 2, engine="gymnasium")
    expected = evaluate(Threshold(jnp.float32(0)), task, 0, 3)
    np.testing.assert_array_equal(
        evaluate(by_numpy, task, 0, 3).returns, expected.returns
    )

    def faulty(obs, key):
        raise KeyError("no such weight")

    with pytest.raises(KeyError, match="no such weight"):
        evaluate(faulty, task, 0, 1)


def test_spaces_that_start_elsewhere():
    class Shifted(Counter):
        action_space = gymnasium.spaces.Discrete(2, start=5)

        def step(self, action):
            assert self.action_space.contains(action), action
            return super().step(action)

    task = envs.external(Shifted)
    assert task.spaces.num_actions == 2
    assert np.isfinite(evaluate(zero, task, 0, 2).returns).all()
    assert set(envs.collect(task, 30, 0).action) == {0, 1}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "step raised OSError: the cable is out"),
        ("nan", "step gave an observation with NaN"),
        ("nan reward", "step gave a reward with NaN"),
    ],
)
def test_a_lane_that_fails_is_named_and_replaced(fault, message):
    sound, _ = counters().play(zero, 3, 8)
    Counter.made = 0
    task = counters(fault=fault)  # in the lane that is made first, lane 0
    with pytest.warns(RuntimeWarning, match=rf"episode 0 \(lane 0, .*{message}"):
        episodes, steps = task.play(zero, 3, 8)
    assert np.isfinite(episodes.returns).all()
    np.testing.assert_array_equal(episodes.returns[1:], sound.returns[1:])
    (found,) = task.faults  # its copy was made anew, without the fault
    assert (found.lane, found.episode, found.message) == (0, 0, message)
    assert found.replaced
    assert steps.real == episodes.lengths.sum() + 2
    episodes, _ = task.play(zero, 3, 8)
    assert not task.faults
    np.testing.assert_array_equal(episodes.returns, sound.returns)


@pytest.mark.parametrize("fault", ["nan", "nan reward"])
def test_a_lane_that_cannot_be_made_anew_gives_no_return(fault):
    vector = gymnasium.vector.SyncVectorEnv([lambda: Counter(fault)] * 4)
    task = envs.external(vector)
    with pytest.warns(RuntimeWarning, match=r"with NaN.*its return is NaN"):
        episodes, _ = task.play(zero, 3, 4)
    np.testing.assert_array_equal(np.isnan(episodes.returns), [True, *[False] * 3])
    assert [found.replaced for found in task.faults] == [True, False]


def test_rows_of_a_lane_that_fails_are_left_out():
    task = counters(fault="raises")
    with pytest.warns(RuntimeWarning, match="the cable is out"):
        rows = envs.collect(task, 40, 0)
    assert (rows.next_obs[:, 0] == rows.obs[:, 0] + 1).all() and len(rows) == 40


def test_where_every_episode_fails_it_is_an_error():
    task = counters(fault="raises", only=None)
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(RuntimeError, match=r"every episode failed.*the cable is out"),
    ):
        task.play(zero, 0, 3)
    with pytest.raises(RuntimeError, match=r"every episode failed.*the cable is out"):
        task.collect(10, 0)


def test_a_policy_that_gives_nan_is_named():
    @struct.dataclass
    class Gain:
        gain: jax.Array

        def __call__(self, obs, key):
            return self.gain * obs[:1]

    task = envs.external("Pendulum-v1", engine="gymnasium", time_limit=3)
    with pytest.warns(RuntimeWarning, match="policy 1, episode 0 .* policy gave"):
        episodes, _ = task.play(Gain(jnp.float32([1.0, jnp.nan])), 0, 2)
    assert np.isfinite(episodes.returns[0]).all()
    assert np.isnan(episodes.returns[1]).all()


def test_an_environment_that_hangs():
    task = counters(fault="hangs")
    with pytest.raises(TimeoutError, match=r"its lane 0 gave no answer within 1.0 s"):
        task.play(zero, 0, 4)
    episodes, _ = task.play(zero, 0, 4)  # in environments made anew
    assert np.isfinite(episodes.returns).all()


def test_a_space_that_changes():
    with pytest.raises(SpaceChangedError, match=r"lane 0 must have shape \(3,\)"):
        counters(fault="shape").play(zero, 0, 4)

    class Growing(Counter):
        def reset(self, **kwargs):
            if Counter.made > 1:
                self.action_space = gymnasium.spaces.Discrete(3)
            return super().reset(**kwargs)

    with pytest.raises(SpaceChangedError, match=r"action_space of lane 0 must stay"):
        envs.external(Growing, 2).play(zero, 0, 4)


@pytest.mark.slow  # Every process imports JAX.
def test_one_process_for_each_environment():
    task = envs.external("CartPole-v1", 2, engine="gymnasium-processes")
    by_turns = envs.external("CartPole-v1", 2, engine="gymnasium")
    policy = Threshold(jnp.float32(0))
    np.testing.assert_array_equal(
        evaluate(policy, task, 0, 3).returns, evaluate(policy, by_turns, 0, 3).returns
    )
    task.close()


def test_envpool():
    pytest.importorskip("envpool")
    task = envs.external("CartPole-v1", 4, engine="envpool", num_threads=1)
    policies = Threshold(jnp.float32([0, 9]))
    episodes, steps = task.play(policies, 0, 3)
    again, _ = task.play(policies, 0, 3)
    np.testing.assert_array_equal(episodes.returns, again.returns)
    assert steps.real == episodes.lengths.sum()
    assert episodes.returns[0].mean() > 2 * episodes.returns[1].mean()
    assert (task.time_limit, task.solved_return) == (500, 475.0)
    rows = envs.collect(task, 30, 0, Threshold(jnp.float32(9)))
    assert rows.terminated.any() and (rows.action == 0).all()
    with pytest.raises(ValueError, match="task must be an id of EnvPool's"):
        envs.external("CartPole", engine="envpool")
    with pytest.raises(ValueError, match="options of CartPole-v1 must be EnvPool's"):
        envs.external("CartPole-v1", engine="envpool", gravity=1.0)


def test_what_cannot_be_opened():
    with pytest.raises(ValueError, match="task must be an id of Gymnasium's"):
        envs.external("NoSuchTask-v0")
    with pytest.raises(ValueError, match="engine must be one of 'envpool'"):
        envs.external("CartPole-v1", engine="mujoco")  # type: ignore
    with pytest.raises(ValueError, match=r"num_envs must be an integer .*None, got 0"):
        envs.external("CartPole-v1", 0)
    with pytest.raises(ValueError, match="num_envs must be 1, as many as there are"):
        envs.external(Counter(), 3)
    with pytest.raises(TypeError, match=r"task must make a gymnasium.Env"):
        envs.external(lambda: 3)
    with pytest.raises(ValueError, match=r"num_episodes must be an integer .* 0"):
        counters().play(zero, 0, 0)
    task = counters()
    assert task.name == "Counter" and task.kind == "real" and task.time_limit is None
    assert envs.open_task(task) is task and envs.open_task(task, name="C").name == "C"
    with pytest.raises(TypeError, match="gymnax pair"):
        _ = task.pair


def test_a_wrapper_says_the_time_limit():
    def limited():
        wrapped = gymnasium.wrappers.TimeLimit(Counter(limit=7), 4)
        return gymnasium.wrappers.TransformReward(wrapped, lambda reward: reward)

    assert envs.external(limited).time_limit == 4
    assert envs.external(limited()).time_limit == 4
    vector = gymnasium.vector.SyncVectorEnv([limited, limited])
    assert envs.external(vector).time_limit == 4
    assert envs.external(lambda: Counter(limit=7)).time_limit is None

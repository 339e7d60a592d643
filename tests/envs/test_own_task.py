"""An example: a new kind of task, a simulator of your own outside JAX, in one file.

The simulator below knows nothing of this toolkit or of JAX. Thirty lines of Gymnasium's
interface make it a task: policies are tested in it, transitions collected, and a model
of it is a pair that agents train in.
"""

import random

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
import jaxrl_se
import oswm


class Room:
    """A room whose heater leaks: pure Python, as simulators at work often are."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.inside = self.random.uniform(12.0, 18.0)
        self.outside = self.random.uniform(0.0, 8.0)

    def heat(self, power):
        """Five minutes at some power in [0, 1]."""
        self.inside += 3.0 * power - 0.1 * (self.inside - self.outside)
        self.outside += self.random.gauss(0.0, 0.1)
        if self.inside > 60.0:
            raise RuntimeError("the room burns down")


class Heating(gymnasium.Env):
    """Keep a room at 20 degrees, and save energy."""

    observation_space = gymnasium.spaces.Box(-50.0, 80.0, (2,), np.float64)
    action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room = Room(seed)
        return self._obs(), {}

    def step(self, action):
        power = float(np.clip(action[0], 0.0, 1.0))
        self.room.heat(power)
        reward = -abs(self.room.inside - 20.0) - power
        return self._obs(), reward, self.room.inside < 0.0, False, {}

    def _obs(self):
        return np.array([self.room.inside, self.room.outside])


@struct.dataclass
class Thermostat:
    """Heats by what is missing, and remembers what has been missing for long."""

    gain: jax.Array
    memory_gain: jax.Array

    def start(self):
        return jnp.zeros(1)

    def step(self, missed, obs, key):
        missing = 20.0 - obs[:1]
        power = self.gain * missing + self.memory_gain * missed
        return jnp.clip(power, 0.0, 1.0), missed + missing


def heating():
    return envs.external(
        Heating, num_envs=8, name="Heating", time_limit=48, solved_return=-120.0
    )


def test_it_is_played_by_policies_that_remember():
    task = heating()
    assert task.spaces == jaxrl_se.Spaces(2, None, (0.0,), (1.0,))
    policies = Thermostat(jnp.float32([0.0, 0.3, 0.3]), jnp.float32([0.0, 0.0, 0.05]))
    episodes, steps = task.play(policies, 0, 10)
    off, proportional, integral = episodes.returns.mean(axis=1)
    assert off < proportional < integral < 0 and integral > task.solved_return
    assert (episodes.lengths == 48).all() and steps == envs.Steps(real=3 * 10 * 48)
    again = jaxrl_se.evaluate(policies, task, 0, 10)
    np.testing.assert_array_equal(again.returns, episodes.returns)


def test_what_is_collected_makes_a_model_of_it():
    task, policy = heating(), Thermostat(jnp.float32(0.3), jnp.float32(0.05))
    rows = envs.collect(task, 300, key=0)
    assert rows.truncated.sum() == 6 and rows.obs.dtype == np.float32
    pair = oswm.condition(
        rows,
        task.action_space(),
        task.time_limit,
        # Six episodes start from too few temperatures.
        np.float32([Heating().reset(seed=seed)[0] for seed in range(100)]),
        model=oswm.Ridge(),
        reward=lambda obs, action, next_obs: -jnp.abs(next_obs[0] - 20.0) - action[0],
        uncertainty_penalty=0.0,
    )
    real = jaxrl_se.evaluate(policy, task, 1, 50).returns.mean()
    modelled = jaxrl_se.evaluate(policy, pair, 1, 50).returns.mean()
    assert abs(real - modelled) < 0.2 * abs(real)


def test_a_fault_of_the_simulator_is_told():
    class Burning(Heating):
        def step(self, action):
            self.room.inside += 100.0 * (self.room.outside > 7.0)
            return super().step(action)

    task = envs.external(Burning, num_envs=8, time_limit=48)
    policy = Thermostat(jnp.float32(0.3), jnp.float32(0.0))
    with pytest.warns(RuntimeWarning, match="RuntimeError: the room burns down"):
        task.play(policy, 0, 16)
    assert all("burns" in fault.message for fault in task.faults)

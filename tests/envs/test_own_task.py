"""An example: a new kind of task, a simulator of your own outside JAX, in one file.

The simulator below knows nothing of this toolkit or of JAX. Thirty lines of Gymnasium's
interface make it a task: policies are tested in it, transitions collected, and a model
of it is a pair that agents train in.
"""

import random

import gymnasium
import jax
import numpy as np


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


@jax.tree_util.register_dataclass
class Thermostat:
    """Heats in proportion to what is missing, and remembers what it lacked."""

    def __init__(self, gain, memory):
        self.gain, self.memory = gain, memory

    def start(self):
        return jax.numpy.zeros(1)

    def step(self, lacked, obs, key):
        lacked = lacked + self.memory * (20.0 - obs[:1])
        return self.gain * (20.0 - obs[:1]) + lacked, lacked

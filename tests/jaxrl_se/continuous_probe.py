"""A probe environment with continuous actions, whose values can be written down."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces
from probe_env import Probe

LOW, HIGH = np.float32([-1.0, 0.0]), np.float32([3.0, 0.5])


def best_action(signal):
    """The action that pays most, at a quarter of the range or at three quarters."""
    return LOW + (HIGH - LOW) * (0.5 + 0.25 * signal * np.float32([1.0, -1.0]))


@struct.dataclass
class ProbeParams(environment.EnvParams):
    """What is paid, and when an episode of this probe ends.

    Its last step, after `terminates_after`, pays constant - by_error times the sum of
    squared distances from the best action, in units of half the bounds' distance. Each
    step pays every_step + every_step_by_signal * signal.
    """

    constant: float = 0.0
    by_error: float = 0.0
    terminates_after: int = 1
    max_steps_in_episode: int = 100
    every_step: float = 0.0
    every_step_by_signal: float = 0.0
    show_time: float = 0.0


PROBES = {
    "constant reward": ProbeParams(constant=1.0),
    "reward by both": ProbeParams(constant=1.0, by_error=1.0),
    "two steps": ProbeParams(constant=1.0, terminates_after=2, show_time=1.0),
    "truncation": ProbeParams(
        every_step=1.0, terminates_after=1_000_000, max_steps_in_episode=3
    ),
    "truncation by observation": ProbeParams(
        every_step_by_signal=1.0, terminates_after=1_000_000, max_steps_in_episode=3
    ),
}


class ContinuousProbe(Probe):
    """A `Probe` with two action dimensions that have bounds of their own."""

    traces: ClassVar[list[int]] = []

    @property
    def default_params(self):
        return ProbeParams()

    def action_space(self, params=None):
        return spaces.Box(jnp.asarray(LOW), jnp.asarray(HIGH), (2,), jnp.float32)

    def step_env(self, key, state, action, params):
        self.traces.append(1)
        error = (action - best_action(state.signal)) / ((HIGH - LOW) / 2)
        last = state.time + 1 >= params.terminates_after
        reward = params.every_step + params.every_step_by_signal * state.signal
        reward = reward + last * (
            params.constant - params.by_error * jnp.sum(jnp.square(error))
        )
        state = state.replace(time=state.time + 1)
        return self.observe(key, state, action, params), state, reward, last, {}

"""Probe environments for reinforcement learning, as one environment with six params.

After Andy Jones, "Debugging RL, without the agonizing pain" (andyljones.com), and
rejax's tests: each has a value function that can be written down. That they differ by
params alone means that an agent is compiled once for all of them.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class ProbeState(environment.EnvState):
    signal: jax.Array


@struct.dataclass
class ProbeParams(environment.EnvParams):
    """What is paid, and when an episode of this probe ends.

    Its last step, after `terminates_after`, pays
    constant + by_signal * signal + by_action * (2 * action - 1)
    + by_match * signal * (2 * action - 1). Each step pays
    every_step + every_step_by_signal * signal, with the other sign from `turns_at` on.
    """

    constant: float = 0.0
    by_signal: float = 0.0
    by_action: float = 0.0
    by_match: float = 0.0
    terminates_after: int = 1
    max_steps_in_episode: int = 100
    every_step: float = 0.0
    every_step_by_signal: float = 0.0
    turns_at: int = 1_000_000
    show_time: float = 0.0


PROBES = {
    "constant reward": ProbeParams(constant=1.0),
    "reward by observation": ProbeParams(by_signal=1.0),
    "two steps": ProbeParams(constant=1.0, terminates_after=2, show_time=1.0),
    "reward by action": ProbeParams(by_action=1.0),
    "reward by both": ProbeParams(by_match=1.0),
    "truncation": ProbeParams(
        every_step=1.0, terminates_after=1_000_000, max_steps_in_episode=3
    ),
    "truncation by observation": ProbeParams(
        every_step_by_signal=1.0, terminates_after=1_000_000, max_steps_in_episode=3
    ),
    "turning reward": ProbeParams(
        every_step=1.0,
        turns_at=900,
        terminates_after=1_000_000,
        max_steps_in_episode=1_000_000,
    ),
}


class Probe(environment.Environment):
    """Two actions; observes (signal, time), of which a probe may hide the time.

    `traces` has an entry for each time that a step was traced, as in brax's `fast`.
    """

    traces: ClassVar[list[int]] = []

    @property
    def default_params(self):
        return ProbeParams()

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def observation_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (2,), jnp.float32)

    def observe(self, key, state, action, params):
        time = params.show_time * state.time.astype(jnp.float32)
        return jnp.stack([state.signal, time])

    def reset_env(self, key, params):
        signal = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        state = ProbeState(time=jnp.int32(0), signal=signal)
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        self.traces.append(1)
        sign = 2.0 * action - 1.0
        last = state.time + 1 >= params.terminates_after
        steady = params.every_step + params.every_step_by_signal * state.signal
        reward = jnp.where(state.time < params.turns_at, steady, -steady) + last * (
            params.constant
            + params.by_signal * state.signal
            + params.by_action * sign
            + params.by_match * state.signal * sign
        )
        state = state.replace(time=state.time + 1)
        return self.observe(key, state, action, params), state, reward, last, {}

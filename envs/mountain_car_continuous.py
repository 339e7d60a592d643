"""MountainCarContinuous-v0 with Gymnasium's dynamics."""

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments.classic_control import continuous_mountain_car as gymnax_mcc

from envs.typed import TypedEnvironment


class _CorrectedMountainCarContinuous(gymnax_mcc.ContinuousMountainCar):
    def step_env(
        self,
        key: jax.Array,
        state: gymnax_mcc.EnvState,
        action: int | float | jax.Array,
        params: gymnax_mcc.EnvParams,
    ) -> tuple[jax.Array, gymnax_mcc.EnvState, jax.Array, jax.Array, dict[Any, Any]]:
        del key  # the dynamics are deterministic
        action = jnp.reshape(action, ())
        force = jnp.clip(action, params.min_action, params.max_action)
        velocity = jnp.clip(
            state.velocity
            + force * params.power
            - params.gravity * jnp.cos(3 * state.position),
            -params.max_speed,
            params.max_speed,
        )
        position = jnp.clip(
            state.position + velocity, params.min_position, params.max_position
        )
        at_left_wall = position == params.min_position
        velocity = jnp.where(at_left_wall & (velocity < 0), 0.0, velocity)

        next_state = gymnax_mcc.EnvState(
            position=position, velocity=velocity, time=state.time + 1
        )
        terminated = self.is_terminated(next_state, params)
        # The action is charged as given, before it is clipped, as in Gymnasium.
        reward = 100.0 * terminated - 0.1 * action**2
        obs, next_state = self._apply_transition_gradient_policy(
            self.get_obs(next_state), next_state
        )
        info = {"discount": self.discount(next_state, params)}
        return obs, next_state, reward, terminated, info


class MountainCarContinuous(TypedEnvironment, _CorrectedMountainCarContinuous):
    """MountainCarContinuous-v0 (999 steps), corrected against Gymnasium 1.3.

    Source: ``gymnasium/envs/classic_control/continuous_mountain_car.py``. gymnax
    1.0.1 means to stop a car that runs into the left wall, but tests for the goal
    instead of for the wall. Two things follow, and are corrected here:

    * *Left wall.* gymnax keeps the negative velocity of a car that hits
      ``min_position``; Gymnasium (and this class) sets it to zero. Returns of a
      policy that swings up against the wall change by a few steps an episode.
    * *Goal.* gymnax zeroes a negative velocity at or beyond ``goal_position``, and
      zero satisfies ``velocity >= goal_velocity``: driving *backwards* beyond the
      goal ends the episode with +100. Here, as in Gymnasium, it does not. Legal
      episodes never get there, but states set freely do.

    The state and the params are gymnax's own (``position, velocity, time``), so code
    that reads or sets states works on either class.
    """

"""GridWorld of One-Shot World Models (Ferreira et al., 2024, arXiv 2409.14084)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from envs.typed import TypedEnvironment

_MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))


@struct.dataclass
class GridWorldState(environment.EnvState):
    """Where the agent is.

    Attributes:
        x: int32 scalar, 0 ... 7.
        y: int32 scalar, 0 ... 7.
        time: int32 scalar, steps since the reset.
    """

    x: jax.Array
    y: jax.Array
    time: jax.Array


@struct.dataclass
class GridWorldParams(environment.EnvParams):
    """Parameters of GridWorld.

    Attributes:
        max_steps_in_episode: Time limit; the reference checks its counter before it
            counts, hence 26.
    """

    max_steps_in_episode: int = 26


class _GridWorld(environment.Environment):
    """The dynamics alone; see `GridWorld`."""

    @property
    def name(self) -> str:
        """Environment name."""
        return "GridWorld"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return 4

    @property
    def default_params(self) -> GridWorldParams:
        """The reference's."""
        return GridWorldParams()

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Start at x = 1 and a random y in 1 ... 6."""
        y = jax.random.randint(key, (), 1, 7)
        state = GridWorldState(time=jnp.int32(0), x=jnp.int32(1), y=y)
        return self.observe(key, state, None, params), state

    def step_env(self, key: jax.Array, state: Any, action: Any, params: Any):
        """Move by one cell."""
        move = jnp.asarray(_MOVES, jnp.int32)[action]
        state = state.replace(
            x=state.x + move[0], y=state.y + move[1], time=state.time + 1
        )
        is_wall = (state.x <= 0) | (state.x >= 7) | (state.y <= 0) | (state.y >= 7)
        value = jnp.where(is_wall, -10.0, jnp.where(state.x == 6, 10.0, 0.0))
        reward = value - 1.0 + 0.01 * state.x
        terminated = self.is_terminated(state, params)
        return (
            self.observe(key, state, action, params),
            state,
            reward.astype(jnp.float32),
            terminated,
            {},
        )

    def observe(self, key, state, action, params) -> jax.Array:
        """The position, float32 [2]."""
        del key, action, params
        return jnp.stack([state.x, state.y]).astype(jnp.float32)

    def is_terminated(self, state: Any, params: Any) -> jax.Array:
        """On a wall or a goal."""
        del params
        return (state.x <= 0) | (state.x >= 6) | (state.y <= 0) | (state.y >= 7)

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """+x, -x, +y, -y."""
        return spaces.Discrete(4)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """The position."""
        return spaces.Box(0.0, 7.0, (2,), jnp.float32)


class GridWorld(TypedEnvironment, _GridWorld):
    """An 8 x 8 room: walls all around, the goal is all of the column before the last.

    Observations are the position (x, y), actions 0 to 3 move by +x, -x, +y, -y. A step
    pays -1, 0.01 for each cell that x is away from the left wall, 10 at the goal
    (x = 6) and -10 on a wall; both end the episode. Five steps to the right are best, a
    return of 5.2.
    """

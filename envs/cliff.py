"""The cliff walk of Ferreira et al. (2022): goal and cliff both end the episode."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from envs.spaces import OneHot
from envs.typed import TypedEnvironment

NUM_ROWS, NUM_COLUMNS = 4, 12
START, GOAL = 36, 47
_MOVES = ((0, 1), (0, -1), (1, 0), (-1, 0))  # right, left, down, up


@struct.dataclass
class CliffState(environment.EnvState):
    """Where the walker is.

    Attributes:
        position: int32 scalar, row * 12 + column.
        time: int32 scalar, steps since the reset.
    """

    position: jax.Array
    time: jax.Array


@struct.dataclass
class CliffParams(environment.EnvParams):
    """Parameters of `Cliff`; all of them are traced.

    Attributes:
        step_reward: Paid at every step that ends on ordinary ground.
        goal_reward: Paid on entering the goal.
        cliff_reward: Paid on stepping off the cliff.
        max_steps_in_episode: The time limit.
    """

    step_reward: float = -1.0
    goal_reward: float = 0.0
    cliff_reward: float = -100.0
    max_steps_in_episode: int = 50


class _Cliff(environment.Environment):
    @property
    def name(self) -> str:
        return "Cliff"

    @property
    def num_actions(self) -> int:
        return len(_MOVES)

    @property
    def default_params(self) -> CliffParams:
        return CliffParams()

    def action_space(self, params: CliffParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(len(_MOVES))

    def observation_space(self, params: CliffParams | None = None) -> OneHot:
        return OneHot(NUM_ROWS * NUM_COLUMNS)

    def observe(self, key: Any, state: Any, action: Any, params: Any) -> jax.Array:
        del key, action, params
        return jax.nn.one_hot(state.position, NUM_ROWS * NUM_COLUMNS, dtype=jnp.float32)

    def reset_env(self, key: jax.Array, params: CliffParams) -> tuple[Any, Any]:
        state = CliffState(position=jnp.int32(START), time=jnp.int32(0))
        return self.observe(key, state, None, params), state

    def step_env(
        self, key: jax.Array, state: CliffState, action: Any, params: CliffParams
    ) -> tuple[Any, Any, Any, Any, dict[Any, Any]]:
        row, column = jnp.divmod(state.position, NUM_COLUMNS)
        down, right = jnp.asarray(_MOVES, jnp.int32)[action]
        row = jnp.clip(row + down, 0, NUM_ROWS - 1)
        column = jnp.clip(column + right, 0, NUM_COLUMNS - 1)
        position = row * NUM_COLUMNS + column
        state = CliffState(position=position, time=state.time + 1)
        reward = jnp.where(
            position == GOAL,
            params.goal_reward,
            jnp.where(_is_cliff(position), params.cliff_reward, params.step_reward),
        )
        obs = self.observe(key, state, action, params)
        return obs, state, reward, self.is_terminated(state, params), {}

    def is_terminated(self, state: CliffState, params: CliffParams) -> jax.Array:
        del params
        return (state.position == GOAL) | _is_cliff(state.position)


class Cliff(TypedEnvironment, _Cliff):
    """Walk along a cliff of 4 x 12 cells, by a table (50 steps).

    The start is the lower left cell (36 in row-major order), the goal the lower right
    one (47); the ten cells between them are the cliff. Actions are 0 right, 1 left,
    2 down, 3 up; moves off the grid stay. A step costs 1, entering the goal nothing,
    the cliff 100. Goal and cliff end the episode. The best return is -12, in 13 steps.

    Sutton and Barto (2018, example 6.6) send a walker who falls back to the start and
    let the episode go on, as Gymnasium's CliffWalking does; there is no counterpart of
    this variant in Gymnasium.

    Observations are one-hot vectors (`envs.OneHot`), so that agents with
    networks learn here as well as agents with tables.
    """


def _is_cliff(position: jax.Array) -> jax.Array:
    return (position > START) & (position < GOAL)

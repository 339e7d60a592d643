"""Grid worlds: whole-numbered coordinates, moves, walls, and slips.

One to three coordinates of 3 to 10 cells. Each choice moves along an axis (or in an
arbitrary direction); a move into a wall does nothing; at the border one stops or comes
out on the other side. In some worlds moves slip: another direction is taken.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.prior.dataset import MAX_ACTIONS
from oswm.prior.draws import Draws

NUM_AXES = 3
_MOST_CELLS = 10


@struct.dataclass
class Grid:
    """Constants of a world.

    Attributes:
        size: Cells along each axis, [3]; 1 where there is none.
        moves: Of each choice, int [MAX_ACTIONS, 3].
        is_wall: Per cell, bool [10, 10, 10].
        wraps: Whether borders are open.
        slip: Probability that another choice is executed.
        start_spread: Share of the world in which episodes start.
    """

    size: jax.Array
    moves: jax.Array
    is_wall: jax.Array
    wraps: jax.Array
    slip: jax.Array
    start_spread: jax.Array

    @property
    def obs_mask(self) -> jax.Array:
        """Axes in use, [3]."""
        return self.size > 1


def init_grid(draws: Draws) -> Grid:
    """Draw a world."""
    num_axes = 1 + draws.choice((0.25, 0.5, 0.25))
    is_axis = jnp.arange(NUM_AXES) < num_axes
    size = 3 + draws.below(_MOST_CELLS - 2, (NUM_AXES,))
    choice = jnp.arange(MAX_ACTIONS)
    along = jax.nn.one_hot((choice // 2) % num_axes, NUM_AXES, dtype=int)
    along = along * jnp.where(choice % 2 == 0, 1, -1)[:, None]
    anywhere = draws.below(3, along.shape) - 1
    moves = jnp.where(draws.chance(0.7), along, anywhere) * is_axis
    walls = draws.uniform(0.0, 0.3) * draws.chance(0.5)
    return Grid(
        size=jnp.where(is_axis, size, 1),
        moves=moves[draws.order(MAX_ACTIONS)],
        is_wall=draws.chance(walls, (_MOST_CELLS,) * NUM_AXES),
        wraps=draws.chance(0.2),
        slip=draws.chance(0.25) * draws.uniform(0.0, 0.3),
        start_spread=draws.uniform(0.2, 1.0),
    )


def reset_grid(u: jax.Array, grid: Grid) -> jax.Array:
    """A first cell, float [3], from as many draws; one can leave a wall it may be."""
    return jnp.floor(u * jnp.ceil(grid.start_spread * grid.size))


def step_grid(u: jax.Array, grid: Grid, cell: jax.Array, action: jax.Array):
    """Move by a one-hot action [MAX_ACTIONS]; two uniform draws decide on slips."""
    other = jax.nn.one_hot((MAX_ACTIONS * u[1]).astype(int), MAX_ACTIONS)
    move = jnp.where(u[0] < grid.slip, other, action) @ grid.moves
    wanted = cell + move
    wanted = jnp.where(
        grid.wraps, wanted % grid.size, jnp.clip(wanted, 0, grid.size - 1)
    )
    index = wanted.astype(int)
    is_blocked = grid.is_wall[index[0], index[1], index[2]]
    return jnp.where(is_blocked, cell, wanted)

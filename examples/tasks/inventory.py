"""An inventory with random demand: how many to order today, to arrive in two days?

python -m benchmarks.evolve --task examples.tasks.inventory:make
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

PRICE, COST, HOLDING, SHORTAGE = 5.0, 3.0, 0.3, 2.0  # per item, the third per day
MEAN_DEMAND, CAPACITY = 3.0, 20.0  # items


@struct.dataclass
class State(environment.EnvState):
    """Items in stock and on their way (tomorrow, the day after) `[3]`; time in days."""

    items: jax.Array
    time: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    """The time limit, in days."""

    max_steps_in_episode: int = 60


class Inventory(environment.Environment):
    """Observations are the items `[stock, tomorrow, day after]`, the action an order.

    Demand is a Poisson number; what is not in stock is lost, at a penalty, and what
    does not fit into the store is thrown away.
    """

    @property
    def default_params(self) -> Params:
        """Sixty days."""
        return Params()

    def reset_env(self, key, params):
        """A stock of up to 10 items and nothing on its way."""
        stock = jax.random.randint(key, (), 0, 11).astype(jnp.float32)
        state = State(items=jnp.stack([stock, 0.0, 0.0]), time=jnp.int32(0))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        """Order, receive, sell."""
        order = jnp.asarray(action, jnp.float32)
        demand = jax.random.poisson(key, MEAN_DEMAND).astype(jnp.float32)
        stock, tomorrow, after = state.items
        stock = jnp.minimum(stock + tomorrow, CAPACITY)
        sold = jnp.minimum(stock, demand)
        stock = stock - sold
        profit = PRICE * sold - COST * order - HOLDING * stock
        profit = profit - SHORTAGE * (demand - sold)
        items = jnp.stack([stock, after, order])
        state = State(items=items, time=state.time + 1)
        obs = self.observe(key, state, action, params)
        return obs, state, profit, jnp.bool_(False), {}

    def observe(self, key, state, action, params):
        """The items, float32 `[3]`."""
        return state.items

    def is_terminated(self, state, params):
        """Never; the time limit truncates."""
        return jnp.bool_(False)

    def action_space(self, params=None):
        """An order of 0 to 7 items."""
        return spaces.Discrete(8)

    def observation_space(self, params=None):
        """Items."""
        return spaces.Box(0.0, CAPACITY, (3,))


def make():
    """The task: an environment and its params."""
    env = Inventory()
    return env, env.default_params


def controller(obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Orders up to a base stock of 11, the best number by simulation."""
    return jnp.clip(11 - jnp.sum(obs), 0, 7).astype(jnp.int32)

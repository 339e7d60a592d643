"""Random and boundary states of every built-in task, 1,000 a sample."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from gymnax.environments.classic_control import (
    acrobot,
    cartpole,
    continuous_mountain_car,
    mountain_car,
    pendulum,
)
from parity_reference import Batch

NUM_STATES = 1_000
NUM_ACTIONS = {"CartPole-v0": 2, "CartPole-v1": 2, "Acrobot-v1": 3, "MountainCar-v0": 3}
Samples = dict[str, Batch]


def states_of(name: str) -> Samples:
    """Sample a task's states: "random" ones and several kinds of boundary."""
    sampler, seed = _SAMPLERS[name], 1
    return sampler(np.random.default_rng(seed), NUM_ACTIONS.get(name))


def make_state(name: str) -> Callable:
    """Return the function that makes gymnax's state from its columns."""
    return _STATES[name]


def _uniform(rng, low, high, actions) -> Batch:
    """Uniform states of a box; ``actions`` is their number or their range."""
    shape = (NUM_STATES, len(low))
    states = rng.uniform(low, high, shape).astype(np.float32)
    if isinstance(actions, int):
        return Batch(states, rng.integers(actions, size=NUM_STATES).astype(np.int32))
    action = rng.uniform(*actions, (NUM_STATES, 1))
    return Batch(states, action.astype(np.float32))


def _sides(rng, size=()):
    return rng.choice([-1, 1], (NUM_STATES, *size)).astype(np.float32)


def _cart_pole(rng, num_actions) -> Samples:
    x, theta = 2.4, 12 * 2 * np.pi / 360  # where an episode ends

    def mirrored(low, high):
        batch = _uniform(rng, low, high, num_actions)
        return Batch(batch.states * _sides(rng, (1,)), batch.actions)

    return {
        "random": _uniform(rng, [-x, -3, -theta, -3], [x, 3, theta, 3], num_actions),
        "cart about to leave": mirrored([x - 0.05, 0, -0.1, -2], [x, 5, 0.1, 2]),
        "pole about to fall": mirrored([-1, -2, theta - 0.05, 0], [1, 2, theta, 5]),
        "terminal by position": mirrored([x, -3, -0.1, -3], [2 * x, 3, 0.1, 3]),
        "terminal by angle": mirrored([-1, -3, theta, -3], [1, 3, 2 * theta, 3]),
    }


def _acrobot(rng, num_actions) -> Samples:
    high = np.array([np.pi, np.pi, 4 * np.pi, 9 * np.pi])

    def around(theta1, width):
        batch = _uniform(rng, -np.array(width), width, num_actions)
        batch.states[:, 0] += theta1
        return batch

    fast = _uniform(rng, -high, high, num_actions)
    fast.states[:, 2:] = high[2:] * _sides(rng, (2,))
    wrap = _uniform(rng, -high / 8, high / 8, num_actions)
    wrap.states[:, :2] += np.pi * _sides(rng, (2,))
    return {
        "random": _uniform(rng, -high, high, num_actions),
        "both joints at the speed limit": fast,
        "angles about to wrap": wrap,
        "near the line": around(_sides(rng) * 2 * np.pi / 3, [0.5, 0.4, 0.5, 0.5]),
        "terminal": around(np.pi, [0.3, 0.3, 1.0, 1.0]),
    }


def _mountain_car(rng, num_actions) -> Samples:
    return _car(rng, num_actions, goal=0.5)


def _mountain_car_continuous(rng, _) -> Samples:
    clipped = _uniform(rng, [-1.2, -0.07], [0.6, 0.07], (-3, 3))
    return _car(rng, (-1, 1), goal=0.45) | {"actions out of range": clipped}


def _car(rng, actions, goal) -> Samples:
    return {
        "random": _uniform(rng, [-1.2, -0.07], [0.6, 0.07], actions),
        "left wall": _uniform(rng, [-1.2, -0.07], [-1.13, 0.0], actions),
        "right wall": _uniform(rng, [0.54, 0.03], [0.6, 0.07], actions),
        "goal": _uniform(rng, [goal - 0.06, -0.07], [goal, 0.07], actions),
        "beyond the goal": _uniform(rng, [goal, -0.07], [0.6, 0.07], actions),
        "speed limit, right": _uniform(rng, [-1.2, 0.0695], [0.6, 0.07], actions),
        "speed limit, left": _uniform(rng, [-1.2, -0.07], [0.6, -0.0695], actions),
    }


def _pendulum(rng, _) -> Samples:
    pi = np.pi
    return {
        "random": _uniform(rng, [-pi, -8], [pi, 8], (-2, 2)),
        "speed limit": _uniform(rng, [-pi, 7.8], [pi, 8], (-2, 2)),
        "speed limit, backwards": _uniform(rng, [-pi, -8], [pi, -7.8], (-2, 2)),
        "hanging": _uniform(rng, [pi - 0.4, -8], [pi + 0.4, 8], (-2, 2)),
        "actions out of range": _uniform(rng, [-pi, -8], [pi, 8], (-10, 10)),
        "turned several times": _uniform(rng, [-30, -8], [30, 8], (-2, 2)),
    }


_SAMPLERS = {
    "CartPole-v0": _cart_pole,
    "CartPole-v1": _cart_pole,
    "Acrobot-v1": _acrobot,
    "MountainCar-v0": _mountain_car,
    "MountainCarContinuous-v0": _mountain_car_continuous,
    "Pendulum-v1": _pendulum,
}


def _from_columns(state_class, **constant):
    def make(*columns):
        time = jnp.zeros(columns[0].shape, jnp.int32)
        extra = {name: jnp.full_like(columns[0], x) for name, x in constant.items()}
        names = [f for f in state_class.__dataclass_fields__ if f != "time"]
        names = [name for name in names if name not in constant]
        return state_class(time=time, **dict(zip(names, columns, strict=True)), **extra)

    return make


_STATES = {
    "CartPole-v0": _from_columns(cartpole.EnvState),
    "CartPole-v1": _from_columns(cartpole.EnvState),
    "Acrobot-v1": _from_columns(acrobot.EnvState),
    "MountainCar-v0": _from_columns(mountain_car.EnvState),
    "MountainCarContinuous-v0": _from_columns(continuous_mountain_car.EnvState),
    "Pendulum-v1": _from_columns(pendulum.EnvState, last_u=0.0),
}

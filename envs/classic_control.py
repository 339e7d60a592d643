"""Classic control tasks: gymnax's dynamics, typed and comparable.

Each class only adds `envs.typed.TypedEnvironment` to the gymnax environment
of the same name. Where gymnax departs from Gymnasium it is said here; the one task
whose dynamics had to be corrected has its own module,
`envs.mountain_car_continuous`.
"""

import jax.numpy as jnp
from gymnax.environments.classic_control import acrobot, cartpole, mountain_car
from gymnax.environments.classic_control import pendulum as gymnax_pendulum

from envs.typed import TypedEnvironment


class CartPole(TypedEnvironment, cartpole.CartPole):
    """CartPole-v0 (200 steps) and CartPole-v1 (500 steps).

    The two differ by ``params.max_steps_in_episode`` alone, which is traced, so they
    share compiled programs; ``name`` is "CartPole-v1" for both.

    Do not step a state that is already terminal: gymnax pays 0 there, Gymnasium pays
    1 on the first such step and 0 afterwards. ``step`` resets in time;
    only loops over ``step_env`` that do not stop at ``terminated`` meet it.
    """


class Acrobot(TypedEnvironment, acrobot.Acrobot):
    """Acrobot-v1 (500 steps).

    A fast joint turns by several radians within one Runge-Kutta step, which amplifies
    rounding. In float32 the next velocities differ from Gymnasium's float64 by up to
    1e-6 rad/s where a random policy gets to, 6e-4 over all legal states, and 1e-2
    where both joints are at their speed limits (13 and 28 rad/s).
    """

    @property
    def default_params(self) -> acrobot.EnvParams:
        """Gymnasium's parameters."""
        # float32 whether or not x64 is enabled where they are first asked for.
        torques = jnp.array([-1.0, 0.0, 1.0], jnp.float32)
        return acrobot.EnvParams(available_torque=torques)


class MountainCar(TypedEnvironment, mountain_car.MountainCar):
    """MountainCar-v0 (200 steps)."""


class Pendulum(TypedEnvironment, gymnax_pendulum.Pendulum):
    """Pendulum-v1 (200 steps, never terminates)."""

"""HalfCheetah-v5 on MuJoCo's own dynamics in JAX (MJX); needs an optional extra."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import pathlib
from typing import Any
from xml.etree import ElementTree

import gymnasium
import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from envs.typed import TypedEnvironment

_FRAME_SKIP = 5  # of 0.01 s each
_NUM_JOINTS, _NUM_MOTORS = 9, 6
# Newton's method has converged by then: on 600 states of random and of wild play these
# limits and MuJoCo's own (100, 50) give equal bits, in half the time.
_ITERATIONS, _LINE_SEARCH_ITERATIONS = 8, 8


@struct.dataclass
class HalfCheetahState(environment.EnvState):
    """Where the cheetah is; the arrays have MuJoCo's names.

    Attributes:
        time: int32 scalar, steps since the reset.
        qpos: float32 ``[9]``, joint positions (m, rad): x, height above its start,
            pitch, and thigh, shin, foot of the back and of the front leg.
        qvel: float32 ``[9]``, their velocities (m/s, rad/s).
        qacc_warmstart: float32 ``[9]``, where the constraint solver starts.
    """

    time: jax.Array
    qpos: jax.Array
    qvel: jax.Array
    qacc_warmstart: jax.Array


@struct.dataclass
class HalfCheetahParams(environment.EnvParams):
    """Parameters of HalfCheetah, with Gymnasium's defaults.

    Attributes:
        max_steps_in_episode: Time limit, in steps of 0.05 s.
        forward_reward_weight: Weight of the velocity to the right, in m/s.
        ctrl_cost_weight: Weight of the squared norm of the action.
        reset_noise_scale: Half-width of the uniform noise on the initial positions and
            deviation of the Gaussian noise on the initial velocities.
    """

    max_steps_in_episode: int = 1000
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1


class _HalfCheetah(environment.Environment):
    """The dynamics alone; see `HalfCheetah`."""

    @property
    def name(self) -> str:
        """Environment name."""
        return "HalfCheetah-v5"

    @property
    def num_actions(self) -> int:
        """Size of an action."""
        return _NUM_MOTORS

    @property
    def default_params(self) -> HalfCheetahParams:
        """Gymnasium's."""
        return HalfCheetahParams()

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Start at rest, but for some noise."""
        key_position, key_velocity = jax.random.split(key)
        noise = jax.random.uniform(key_position, (_NUM_JOINTS,), minval=-1.0)
        velocity = jax.random.normal(key_velocity, (_NUM_JOINTS,))
        state = HalfCheetahState(
            time=jnp.int32(0),
            qpos=_physics()[2] + params.reset_noise_scale * noise,
            qvel=params.reset_noise_scale * velocity,
            qacc_warmstart=jnp.zeros(_NUM_JOINTS),
        )
        return self.observe(key, state, None, params), state

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[jax.Array, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """Five steps of the simulation; an episode never terminates."""
        model, data, _ = _physics()
        action = jnp.reshape(action, (_NUM_MOTORS,)).astype(jnp.float32)
        data = data.replace(
            ctrl=action,
            qpos=state.qpos,
            qvel=state.qvel,
            qacc_warmstart=state.qacc_warmstart,
        )
        # Accelerators multiply less precisely by default, which contacts do not bear.
        with jax.default_matmul_precision("highest"):
            data = jax.lax.fori_loop(
                0, _FRAME_SKIP, lambda _, data: _mjx().step(model, data), data
            )
        time_step = _FRAME_SKIP * model.opt.timestep
        x_velocity = (data.qpos[0] - state.qpos[0]) / time_step
        forward = params.forward_reward_weight * x_velocity
        # The action is charged as given, before it is clipped, as in Gymnasium.
        control = -params.ctrl_cost_weight * jnp.sum(jnp.square(action))
        state = HalfCheetahState(
            time=state.time + 1,
            qpos=data.qpos,
            qvel=data.qvel,
            qacc_warmstart=data.qacc_warmstart,
        )
        obs, state = jax.lax.stop_gradient(
            (self.observe(key, state, action, params), state)
        )
        info = {
            "x_position": state.qpos[0],
            "x_velocity": x_velocity,
            "reward_forward": forward,
            "reward_ctrl": control,
        }
        return obs, state, forward + control, jnp.bool_(False), info

    def observe(self, key: jax.Array, state: Any, action: Any, params: Any) -> Any:
        """All positions but x, and all velocities."""
        del key, action, params
        return jnp.concatenate([state.qpos[1:], state.qvel])

    def is_terminated(self, state: Any, params: Any) -> jax.Array:
        """Never."""
        return jnp.bool_(False)

    def action_space(self, params: Any = None) -> spaces.Box:
        """Torques of the motors, as shares of the largest."""
        return spaces.Box(-1.0, 1.0, (_NUM_MOTORS,), jnp.float32)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """Unbounded vectors of 17."""
        limit = float(jnp.finfo(jnp.float32).max)
        return spaces.Box(-limit, limit, (2 * _NUM_JOINTS - 1,), jnp.float32)


class HalfCheetah(TypedEnvironment, _HalfCheetah):
    """HalfCheetah-v5 (1000 steps, never terminates): run to the right.

    Source: ``gymnasium/envs/mujoco/half_cheetah_v5.py``, whose model file it loads, and
    whose observations (17), actions (6), reward and infos it has. The simulator is MJX,
    MuJoCo's own in JAX (tested: mujoco-mjx 3.17.0 with mujoco 4.0.0 and jax 0.10.2).
    One step differs from MuJoCo's by rounding alone, up to 1e-4 in positions and 2e-3
    in velocities where feet hit the ground, so returns are on the scale of Gymnasium's
    HalfCheetah-v5.

    They are **not on the scale of HalfCheetah-v3 on MuJoCo 1.5** (mujoco-py), which
    Ferreira et al. (2022) and most papers until 2022 used, nor on Brax's: contacts
    differ. Compare curves of one simulator only.

    The step's info has the four numbers that augment reward networks: ``x_position``,
    ``x_velocity``, ``reward_forward`` (``reward_run`` until v4) and ``reward_ctrl``,
    float32 scalars. Reverse-mode gradients stop at each step.
    """


def make_half_cheetah() -> tuple[HalfCheetah, HalfCheetahParams]:
    """Make the task.

    Raises:
        ModuleNotFoundError: If the extra is not installed.
    """
    try:
        _physics()
    except ImportError as error:  # no mujoco, or mujoco without its part in JAX
        raise ModuleNotFoundError(
            "HalfCheetah-v5 needs MuJoCo's simulator in JAX, which is an optional "
            "extra: pip install 'jaxrl-se[mujoco]'"
        ) from error
    return HalfCheetah(), HalfCheetahParams()


@functools.cache
def _mjx() -> Any:
    # It prints that it found no Warp, its other implementation, which is not used here.
    with contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module("mujoco.mjx")


@functools.cache
def _physics() -> tuple[Any, Any, jax.Array]:
    """MJX's model and data, and the position at rest; built once."""
    mjx = _mjx()
    mujoco: Any = importlib.import_module("mujoco")
    folder = pathlib.Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    root = ElementTree.parse(folder / "half_cheetah.xml").getroot()
    # MuJoCo 4 deprecates the attribute, with a line in a log file where one works.
    mass = float(root.find("compiler").attrib.pop("settotalmass"))  # type: ignore
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(root, "unicode"))
    mujoco.mj_setTotalmass(model, mass)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    model.opt.iterations = _ITERATIONS
    model.opt.ls_iterations = _LINE_SEARCH_ITERATIONS
    # Constants, also where the first call comes from inside a jitted function.
    with jax.ensure_compile_time_eval():
        data = mjx.make_data(model, impl="jax")
        at_rest = jnp.asarray(model.qpos0, jnp.float32)
        return mjx.put_model(model, impl="jax"), data, at_rest

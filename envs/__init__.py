"""Target tasks and the seam to Gymnasium.

A task is gymnax's pair ``(env, params)``. :func:`make` gives one by its Gymnasium
name; everything else here takes any other pair as well:

* :class:`GymnasiumEnv` and :class:`GymnasiumVectorEnv` for code that expects
  Gymnasium, :class:`LegacyEnv` for code that expects gymnax 0.0.x;
* :class:`ActionRepeat` for each action several times in a row, :class:`Wrapper` for
  wrappers of your own;
* :func:`open_task` for a :class:`Task`, the one thing that is played, scored and
  collected from, be it a pair or, by :func:`external`, outside JAX;
* :func:`collect` for :class:`Transitions` under any policy.
"""

from envs.action_repeat import ActionRepeat
from envs.collection import collect
from envs.external import ExternalTask, external
from envs.gymnasium_env import GymnasiumEnv
from envs.gymnasium_vector import GymnasiumVectorEnv
from envs.legacy import LegacyEnv
from envs.play import Episodes, Policy, RecurrentPolicy
from envs.registry import (
    TaskSpec,
    available,
    make,
    register,
    solved_return,
    spec,
)
from envs.spaces import OneHot, Spaces
from envs.steps import Steps
from envs.task import Task, as_pair, open_task
from envs.terminating import TerminatingTimeLimit
from envs.transitions import Transitions
from envs.typed import TypedEnvironment
from envs.wrapper import Wrapper

__all__ = [
    "ActionRepeat",
    "Episodes",
    "ExternalTask",
    "GymnasiumEnv",
    "GymnasiumVectorEnv",
    "LegacyEnv",
    "OneHot",
    "Policy",
    "RecurrentPolicy",
    "Spaces",
    "Steps",
    "Task",
    "TaskSpec",
    "TerminatingTimeLimit",
    "Transitions",
    "TypedEnvironment",
    "Wrapper",
    "as_pair",
    "available",
    "collect",
    "external",
    "make",
    "open_task",
    "register",
    "solved_return",
    "spec",
]

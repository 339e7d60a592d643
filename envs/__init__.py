"""Target tasks and the seam to Gymnasium.

A task is gymnax's pair ``(env, params)``. `make` gives one by its Gymnasium
name; everything else here takes any other pair as well:

* `GymnasiumEnv` and `GymnasiumVectorEnv` for code that expects
  Gymnasium, `LegacyEnv` for code that expects gymnax 0.0.x;
* `check` for whether it keeps the contract;
* `ActionRepeat` for each action several times in a row, `Wrapper` for
  wrappers of your own;
* `family` for tasks that differ by numbers of their params, as one pair;
* `open_task` for a `Task`, the one thing that is played, scored and
  collected from, be it a pair or, by `external`, outside JAX;
* `brax` for any environment of Brax's as a pair;
* `collect` for `Transitions` under any policy;
* `read_transitions` for logs of other programs, `episodes_of` for what
  episodes they hold.
"""

import envs.gymnax_import  # noqa: F401  before anything else imports gymnax

# isort: split
from envs.action_repeat import ActionRepeat
from envs.brax_env import BraxEnv, brax
from envs.check import ContractError, check
from envs.collection import collect
from envs.episodes import (
    LogEpisodes,
    OrderError,
    episodes_of,
    in_order,
    known_episodes,
)
from envs.external import ExternalTask, external
from envs.family import TaskFamily, family
from envs.flat_observations import flat_observations
from envs.gymnasium_env import GymnasiumEnv
from envs.gymnasium_vector import GymnasiumVectorEnv
from envs.legacy import LegacyEnv
from envs.partly_observed import PartlyObserved
from envs.play import Episodes, Policy, RecurrentPolicy
from envs.readers import read_transitions
from envs.registry import (
    TaskSpec,
    available,
    make,
    register,
    solved_return,
    spec,
    unregister,
)
from envs.spaces import OneHot, Spaces
from envs.steps import Steps
from envs.task import Task, as_pair, open_task
from envs.terminating import TerminatingTimeLimit
from envs.transitions import Transitions
from envs.typed import TypedEnvironment
from envs.wrapper import Wrapper
from jaxrl_runs.keywords import explain_keywords

__all__ = [
    "ActionRepeat",
    "BraxEnv",
    "ContractError",
    "Episodes",
    "ExternalTask",
    "GymnasiumEnv",
    "GymnasiumVectorEnv",
    "LegacyEnv",
    "LogEpisodes",
    "OneHot",
    "OrderError",
    "PartlyObserved",
    "Policy",
    "RecurrentPolicy",
    "Spaces",
    "Steps",
    "Task",
    "TaskFamily",
    "TaskSpec",
    "TerminatingTimeLimit",
    "Transitions",
    "TypedEnvironment",
    "Wrapper",
    "as_pair",
    "available",
    "brax",
    "check",
    "collect",
    "episodes_of",
    "external",
    "family",
    "flat_observations",
    "in_order",
    "known_episodes",
    "make",
    "open_task",
    "read_transitions",
    "register",
    "solved_return",
    "spec",
    "unregister",
]

explain_keywords(globals(), __all__)

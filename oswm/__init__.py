"""One-Shot World Model: a thousand transitions in, an environment to train in out.

`condition` turns transitions of a task into a gymnax environment. What steps it is a
world model: the shipped one, a closed-form regression on the transitions, or a few
small networks trained on them.
"""

import jaxrl_runs.placement  # noqa: F401  first: is `envs` ours?

# isort: split
from jaxrl_runs.keywords import explain_keywords
from oswm.assessment import Assessment, assess
from oswm.closed_form import Persistence, Ridge
from oswm.conditioning import condition
from oswm.context import Context, Prediction
from oswm.environment import WorldModelEnv, WorldModelParams
from oswm.evolvable import EvolvableEnv, evolvable
from oswm.fast_kernel_ridge import FastKernelRidge
from oswm.inputs import read_log
from oswm.kernel_guess import KernelGuess, load_guess
from oswm.kernel_ridge import KernelRidge
from oswm.mlp_ensemble import MLPEnsemble
from oswm.model import TransformerModel
from oswm.nearest_neighbours import NearestNeighbours
from oswm.planning import CrossEntropyPlanner
from oswm.relevance import RelevanceSearch
from oswm.selection import LeaveOneOut
from oswm.sub_contexts import SubContexts
from oswm.weights import load_model, read_card
from oswm.world_model import WorldModel
from oswm.worlds import WorldsParams, condition_worlds, draw_world

__all__ = [
    "Assessment",
    "Context",
    "CrossEntropyPlanner",
    "EvolvableEnv",
    "FastKernelRidge",
    "KernelGuess",
    "KernelRidge",
    "LeaveOneOut",
    "MLPEnsemble",
    "NearestNeighbours",
    "Persistence",
    "Prediction",
    "RelevanceSearch",
    "Ridge",
    "SubContexts",
    "TransformerModel",
    "WorldModel",
    "WorldModelEnv",
    "WorldModelParams",
    "WorldsParams",
    "assess",
    "condition",
    "condition_worlds",
    "draw_world",
    "evolvable",
    "load_guess",
    "load_model",
    "read_card",
    "read_log",
]

explain_keywords(globals(), __all__)

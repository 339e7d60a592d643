"""One-Shot World Model: a thousand transitions in, an environment to train in out.

`condition` turns transitions of a task into a gymnax environment. What steps it is a
world model: the shipped one, a closed-form regression on the transitions, or a few
small networks trained on them.
"""

import jaxrl_runs.placement  # noqa: F401  first: is `envs` ours?

# isort: split
from oswm.closed_form import Persistence, Ridge
from oswm.context import Context, Prediction
from oswm.environment import WorldModelEnv, WorldModelParams, condition
from oswm.evolvable import EvolvableEnv, evolvable
from oswm.kernel_ridge import KernelRidge
from oswm.mlp_ensemble import MLPEnsemble
from oswm.model import TransformerModel
from oswm.nearest_neighbours import NearestNeighbours
from oswm.planning import CrossEntropyPlanner
from oswm.selection import LeaveOneOut
from oswm.sub_contexts import SubContexts
from oswm.weights import load_model, read_card

__all__ = [
    "Context",
    "CrossEntropyPlanner",
    "EvolvableEnv",
    "KernelRidge",
    "LeaveOneOut",
    "MLPEnsemble",
    "NearestNeighbours",
    "Persistence",
    "Prediction",
    "Ridge",
    "SubContexts",
    "TransformerModel",
    "WorldModelEnv",
    "WorldModelParams",
    "condition",
    "evolvable",
    "load_model",
    "read_card",
]

"""One-Shot World Model: a thousand transitions in, an environment to train in out."""

from oswm.closed_form import Persistence, Ridge
from oswm.context import Context, Prediction
from oswm.environment import WorldModelEnv, WorldModelParams, condition
from oswm.kernel_ridge import KernelRidge
from oswm.nearest_neighbours import NearestNeighbours
from oswm.selection import LeaveOneOut

__all__ = [
    "Context",
    "KernelRidge",
    "LeaveOneOut",
    "NearestNeighbours",
    "Persistence",
    "Prediction",
    "Ridge",
    "WorldModelEnv",
    "WorldModelParams",
    "condition",
]

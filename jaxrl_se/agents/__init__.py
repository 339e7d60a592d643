"""Agents: frozen dataclasses of hyperparameters with a pure `train`."""

from jaxrl_se.agents.ddqn import DDQN
from jaxrl_se.agents.off_policy import Trained, Variation
from jaxrl_se.agents.stopping import Plateau, Solved

__all__ = ["DDQN", "Plateau", "Solved", "Trained", "Variation"]

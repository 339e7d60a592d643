"""Agents: frozen dataclasses of hyperparameters with a pure `train`."""

from jaxrl_se.agents.best_response import BestResponse
from jaxrl_se.agents.ddqn import DDQN
from jaxrl_se.agents.off_policy import Trained, Variation
from jaxrl_se.agents.ppo import PPO
from jaxrl_se.agents.sac import SAC
from jaxrl_se.agents.stopping import Plateau, Solved
from jaxrl_se.agents.td3 import DDPG, TD3
from jaxrl_se.agents.td3_discrete import DiscreteTD3

__all__ = [
    "DDPG",
    "DDQN",
    "PPO",
    "SAC",
    "TD3",
    "BestResponse",
    "DiscreteTD3",
    "Plateau",
    "Solved",
    "Trained",
    "Variation",
]

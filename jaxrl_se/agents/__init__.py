"""Agents: frozen dataclasses of hyperparameters, by the protocol `Agent`.

Why they are ours and not rejax's is not speed alone. rejax composes with evolution
(`jax.vmap` over `algorithm.replace(env_params=...)`, the environment wrapped in
`envs.LegacyEnv`), and for 16 agents `python -m benchmarks.agents_throughput` prints run
times, rejax's divided by ours, of 1.0 for PPO, 1.1 for SAC, 1.3 for DQN and 1.7 for TD3
(one loaded core, small replay buffers; 0.9 to 1.8 for compilation). But it takes
truncation for termination, its PPO and SAC sample when they are tested (SAC's mean
reward there is 0.09 instead of 0.17), it knows no stop rules, and widths and depths
cannot vary inside a compiled program.
"""

from jaxrl_se.agents.agent import Agent, Transition
from jaxrl_se.agents.best_response import BestResponse
from jaxrl_se.agents.bonus import Bonus
from jaxrl_se.agents.curiosity import Curious
from jaxrl_se.agents.ddqn import DDQN
from jaxrl_se.agents.icm import ICM
from jaxrl_se.agents.off_policy import Variation
from jaxrl_se.agents.ppo import PPO
from jaxrl_se.agents.recurrent_ppo import RecurrentPPO
from jaxrl_se.agents.rnd import RND
from jaxrl_se.agents.sac import SAC
from jaxrl_se.agents.stopping import Plateau, Solved
from jaxrl_se.agents.tabular import SARSA, QLearning
from jaxrl_se.agents.td3 import DDPG, TD3
from jaxrl_se.agents.td3_discrete import DiscreteTD3

__all__ = [
    "DDPG",
    "DDQN",
    "ICM",
    "PPO",
    "RND",
    "SAC",
    "SARSA",
    "TD3",
    "Agent",
    "BestResponse",
    "Bonus",
    "Curious",
    "DiscreteTD3",
    "Plateau",
    "QLearning",
    "RecurrentPPO",
    "Solved",
    "Transition",
    "Variation",
]

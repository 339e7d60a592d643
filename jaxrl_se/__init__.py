"""Evolved synthetic environments: train agents in them, test on the real task."""

import jaxrl_runs.placement  # noqa: F401  first: is `envs` ours?

# isort: split
from envs.spaces import Spaces
from jaxrl_runs.run_folder import RunFolderError
from jaxrl_se.agents import (
    DDPG,
    DDQN,
    ICM,
    PPO,
    RND,
    SAC,
    SARSA,
    TD3,
    BestResponse,
    Curious,
    DiscreteTD3,
    Plateau,
    QLearning,
    Solved,
)
from jaxrl_se.config import EvolutionConfig, HorizonCurriculum, SyntheticConfig
from jaxrl_se.evaluation import Episodes, evaluate
from jaxrl_se.evolution import EvolutionResult, evolve
from jaxrl_se.hyperparameters import Choice, LogUniform, Uniform, Varied
from jaxrl_se.policies import DeterministicPolicy, GreedyPolicy, RandomPolicy
from jaxrl_se.reward_network import RewardConfig, RewardEnv
from jaxrl_se.scoring import AreaUnderCurve, FinalReturn, StepsToSolve
from jaxrl_se.synthetic_env import MultiStepEnv, OneStepEnv
from jaxrl_se.task_tests import TaskTest
from jaxrl_se.training import TrainResult, train
from jaxrl_se.zoo import available, load, report, save

__all__ = [
    "DDPG",
    "DDQN",
    "ICM",
    "PPO",
    "RND",
    "SAC",
    "SARSA",
    "TD3",
    "AreaUnderCurve",
    "BestResponse",
    "Choice",
    "Curious",
    "DeterministicPolicy",
    "DiscreteTD3",
    "Episodes",
    "EvolutionConfig",
    "EvolutionResult",
    "FinalReturn",
    "GreedyPolicy",
    "HorizonCurriculum",
    "LogUniform",
    "MultiStepEnv",
    "OneStepEnv",
    "Plateau",
    "QLearning",
    "RandomPolicy",
    "RewardConfig",
    "RewardEnv",
    "RunFolderError",
    "Solved",
    "Spaces",
    "StepsToSolve",
    "SyntheticConfig",
    "TaskTest",
    "TrainResult",
    "Uniform",
    "Varied",
    "available",
    "evaluate",
    "evolve",
    "load",
    "report",
    "save",
    "train",
]

"""Evolved synthetic environments: train agents in them, test on the real task."""

import jaxrl_runs.placement  # noqa: F401  first: is `envs` ours?

# isort: split
from envs.spaces import Spaces
from jaxrl_runs.keywords import explain_keywords
from jaxrl_runs.run_folder import RunFolderError
from jaxrl_se.agent_files import SavedAgent, available_agents, load_agent, save_agent
from jaxrl_se.agents import (
    DDPG,
    DDQN,
    ICM,
    PPO,
    RND,
    SAC,
    SARSA,
    TD3,
    Agent,
    BestResponse,
    Curious,
    DiscreteTD3,
    Plateau,
    QLearning,
    RecurrentPPO,
    Solved,
    Transition,
)
from jaxrl_se.config import EvolutionConfig, HorizonCurriculum, SyntheticConfig
from jaxrl_se.defaults import Budget
from jaxrl_se.evaluation import Episodes, evaluate
from jaxrl_se.evolution import EvolutionResult, evolve
from jaxrl_se.export import export_policy, policy_function
from jaxrl_se.family import member
from jaxrl_se.ferreira_es import FerreiraES
from jaxrl_se.flat_policies import FlatPolicy
from jaxrl_se.from_log import LogConfig, LogEvolutionResult, evolve_from_log
from jaxrl_se.from_policy import Cloning, from_policy
from jaxrl_se.gain import with_gain
from jaxrl_se.gymnasium_ids import register as _register_gymnasium_ids
from jaxrl_se.hyperparameters import Choice, LogUniform, Uniform, Varied
from jaxrl_se.learning_curves import LearningCurve, learning_curve
from jaxrl_se.log_rounds import RoundsConfig, RoundsResult, evolve_in_rounds
from jaxrl_se.loop import Metrics, advance, start
from jaxrl_se.multi_step import Dynamics, with_dynamics
from jaxrl_se.one_line import to_line
from jaxrl_se.outside_training import train_outside
from jaxrl_se.policies import (
    DeterministicPolicy,
    GreedyPolicy,
    MeanPolicy,
    RandomPolicy,
    with_memory,
)
from jaxrl_se.recurrent import RememberingPolicy
from jaxrl_se.report import report
from jaxrl_se.reward_network import RewardConfig, RewardEnv
from jaxrl_se.rounds import TrainState
from jaxrl_se.saved_state import load_state, save_state
from jaxrl_se.scoring import (
    AreaUnderCurve,
    FinalReturn,
    Scoring,
    ScoringRule,
    StepsToSolve,
    Trial,
)
from jaxrl_se.shaping import Shaping, shaping_from_policy
from jaxrl_se.sinks import CSVSink, TensorBoardSink, each
from jaxrl_se.solving import Solution, solve
from jaxrl_se.starts import with_met_starts, with_starts
from jaxrl_se.synthetic_env import MultiStepEnv, OneStepEnv
from jaxrl_se.task_tests import TaskTest
from jaxrl_se.training import TrainResult, train
from jaxrl_se.zoo import available, load, read_card, save

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
    "AreaUnderCurve",
    "BestResponse",
    "Budget",
    "CSVSink",
    "Choice",
    "Cloning",
    "Curious",
    "DeterministicPolicy",
    "DiscreteTD3",
    "Dynamics",
    "Episodes",
    "EvolutionConfig",
    "EvolutionResult",
    "FerreiraES",
    "FinalReturn",
    "FlatPolicy",
    "GreedyPolicy",
    "HorizonCurriculum",
    "LearningCurve",
    "LogConfig",
    "LogEvolutionResult",
    "LogUniform",
    "MeanPolicy",
    "Metrics",
    "MultiStepEnv",
    "OneStepEnv",
    "Plateau",
    "QLearning",
    "RandomPolicy",
    "RecurrentPPO",
    "RememberingPolicy",
    "RewardConfig",
    "RewardEnv",
    "RoundsConfig",
    "RoundsResult",
    "RunFolderError",
    "SavedAgent",
    "Scoring",
    "ScoringRule",
    "Shaping",
    "Solution",
    "Solved",
    "Spaces",
    "StepsToSolve",
    "SyntheticConfig",
    "TaskTest",
    "TensorBoardSink",
    "TrainResult",
    "TrainState",
    "Transition",
    "Trial",
    "Uniform",
    "Varied",
    "advance",
    "available",
    "available_agents",
    "each",
    "evaluate",
    "evolve",
    "evolve_from_log",
    "evolve_in_rounds",
    "export_policy",
    "from_policy",
    "learning_curve",
    "load",
    "load_agent",
    "load_state",
    "member",
    "policy_function",
    "read_card",
    "report",
    "save",
    "save_agent",
    "save_state",
    "shaping_from_policy",
    "solve",
    "start",
    "to_line",
    "train",
    "train_outside",
    "with_dynamics",
    "with_gain",
    "with_memory",
    "with_met_starts",
    "with_starts",
]

_register_gymnasium_ids()

explain_keywords(globals(), __all__)

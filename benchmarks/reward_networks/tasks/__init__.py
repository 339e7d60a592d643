"""Tasks of `benchmarks.reward_networks`: agents, evolutions, published figures."""

from benchmarks.reward_networks.tasks.cartpole import CARTPOLE
from benchmarks.reward_networks.tasks.cliff import CLIFF
from benchmarks.reward_networks.tasks.half_cheetah import HALF_CHEETAH
from benchmarks.reward_networks.tasks.mountain_car_continuous import (
    MOUNTAIN_CAR_CONTINUOUS,
)
from benchmarks.reward_networks.tasks.task import KINDS, NO_NETWORK, RewardTask, Row

TASKS = {
    "cliff": CLIFF,
    "cartpole": CARTPOLE,
    "mountain_car_continuous": MOUNTAIN_CAR_CONTINUOUS,
    "half_cheetah": HALF_CHEETAH,
}

__all__ = [
    "CARTPOLE",
    "CLIFF",
    "HALF_CHEETAH",
    "KINDS",
    "MOUNTAIN_CAR_CONTINUOUS",
    "NO_NETWORK",
    "TASKS",
    "RewardTask",
    "Row",
]

"""What `benchmarks.reward_networks` compares: agents, evolutions, published figures.

Agents of the curves are those of Ferreira et al. (2022) by their evaluation configs.
Evolutions are ours: networks are smaller, inner loops shorter.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

import envs
from envs.cliff import START, Cliff, CliffState
from envs.mountain_car_continuous import MountainCarContinuous
from jaxrl_se.agents import DDQN, ICM, PPO, RND, SARSA, TD3, Curious, QLearning
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.hyperparameters import (
    Choice,
    LogUniform,
    Uniform,
    Varied,
    vary_like_ferreira2022,
)
from jaxrl_se.presets.ferreira2022_icm import ferreira2022_icm
from jaxrl_se.reward_network import RewardConfig
from jaxrl_se.scoring import AreaUnderCurve, FinalReturn, StepsToSolve

NO_NETWORK = "no reward network"
POTENTIAL = ("exclusive-potential", "additive-potential")
KINDS = (*POTENTIAL, "exclusive", "additive")
_VARIED = "hyperparameters drawn around the paper's"
INFO_KINDS = tuple(f"{kind}-info" for kind in KINDS)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the figures: an agent that trains in everything.

    Attributes:
      agent: The agent.
      bonuses: Baselines: the agent with something else than a reward network.
      repeat: Times that it repeats each action.
      published: By column, mean returns at `RewardTask.points` (None where the paper's
        figure cannot be read).
      settings: Whose settings the agent has, for tables and cards.
    """

    agent: Any
    bonuses: dict[str, Any]
    repeat: int = 1
    settings: str = "the paper's settings"
    published: dict[str, tuple[float | None, ...]] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True)
class RewardTask:
    """What differs between tasks.

    Attributes:
      task: Name of the task.
      kinds: Kinds of reward networks.
      evolutions: Their evolutions.
      rows: By name: "same" agent, "varied" hyperparameters, "unseen" agent.
      points: Training steps, in the task's own, at which the table shows returns.
      resolution: Steps between the points of a curve.
      chosen_at: Steps up to which the mean of the curve chooses the best network.
      steps: Steps of a curve without `--full`.
      small: Without `--full`, other defaults of the options.
      light: Without `--full`, agents that take their places in rows of these names.
      evolved_in: By kind, the form of the task that its networks evolve in, where it
        is another one; `starts` says in words where its episodes start.
      scales: By kind, the factor on the output of its evolved networks, 1 if it is not
        there. Exclusive kinds rank policies the same whatever it is.
    """

    task: str
    kinds: tuple[str, ...]
    evolutions: dict[str, EvolutionConfig]
    rows: dict[str, Row]
    points: tuple[int, ...]
    resolution: int
    chosen_at: int
    steps: int = 0
    small: dict[str, Any] = dataclasses.field(default_factory=dict)
    light: dict[str, Row] = dataclasses.field(default_factory=dict)
    evolved_in: dict[str, Any] = dataclasses.field(default_factory=dict)
    scales: dict[str, float] = dataclasses.field(default_factory=dict)

    def with_light_agents(self) -> RewardTask:
        """The task with the agents that a CPU can train."""
        return dataclasses.replace(self, rows=self.rows | self.light)

    def pair(self, repeat: int, env: Any = None) -> tuple[Any, Any]:
        """The task, or a form of it, with actions repeated."""
        task, params = envs.make(self.task)
        env = task if env is None else env
        return (envs.ActionRepeat(env, repeat) if repeat > 1 else env), params

    def evolution_pair(self, kind: str) -> tuple[Any, Any]:
        """What networks evolve in, with the actions of the "same" agent repeated."""
        return self.pair(self.rows["same"].repeat, self.evolved_in.get(kind))

    def evolution_starts(self, kind: str) -> str:
        """Where episodes of evolution start, in words."""
        return getattr(self.evolved_in.get(kind), "starts", "as in the task")


def _published(*columns: tuple[float, ...], names: tuple[str, ...]) -> dict:
    return dict(zip(names, columns, strict=True))


def _each(kinds, config: EvolutionConfig, **proxy: Any) -> dict[str, EvolutionConfig]:
    """The same evolution for several kinds."""
    return {kind: config.replace(proxy=RewardConfig(kind, **proxy)) for kind in kinds}


_QL = QLearning(learning_rate=1.0, discount=0.8, epsilon=0.1)
_COUNTING_QL = dataclasses.replace(_QL, count_bonus=0.1)
_SARSA = SARSA(learning_rate=1.0, discount=0.8, epsilon=0.01)
_VARIED_QL = Varied.of(_QL, learning_rate=Uniform(0.1, 1.0), discount=Uniform(0.1, 1.0))
_CLIFF_NAMES = (*KINDS, NO_NETWORK, "count-based")


class _CliffFromAnywhere(Cliff):
    """The task, half of whose episodes start in any cell that does not end them.

    From the start alone all first candidates fail alike, and evolution has nothing to
    go by; from anywhere they can be told apart by the cells from which their agents
    reach the goal. Additive potentials do not need it: all of their agents learn in the
    end.
    """

    starts = "half of them in any cell"

    def reset_env(self, key, params):
        """Draws an initial state."""
        key_position, key_choice = jax.random.split(key)
        anywhere = jax.random.randint(key_position, (), 0, START + 1)
        is_anywhere = jax.random.bernoulli(key_choice)
        position = jnp.where(is_anywhere, anywhere, START)
        state = CliffState(position=position, time=jnp.int32(0))
        return self.observe(key, state, None, params), state


_CLIFF_EVOLUTION = EvolutionConfig(
    proxy=RewardConfig("additive-potential", hidden_sizes=()),
    agent=_QL,
    scoring=StepsToSolve(solved_return=-12.0, window=3),
    train_steps=1500,
    population_size=64,
    num_seeds=1,
    std=1.0,
    max_generations=240,
    stop_return=math.inf,
)
_ANYWHERE_CLIFF_EVOLUTION = _CLIFF_EVOLUTION.replace(
    scoring=FinalReturn(), fitness_episodes=16
)

CLIFF = RewardTask(
    task="Cliff",
    kinds=KINDS,
    # A linear network of one-hot states is a table of potentials or rewards: the same
    # functions as those of a hidden layer, with 49 numbers instead of 1,601. Solved is
    # what cannot be done better, not the -20 of the reference.
    evolutions={
        "additive-potential": _CLIFF_EVOLUTION,
        "additive": _ANYWHERE_CLIFF_EVOLUTION.replace(
            proxy=RewardConfig("additive", ()),
            std=0.3,
            train_steps=400,
            max_generations=1200,
        ),
        # With a potential of 0 at the end every way is worth the same to an agent that
        # is paid by the potential alone.
        "exclusive-potential": _ANYWHERE_CLIFF_EVOLUTION.replace(
            proxy=RewardConfig("exclusive-potential", (), zero_at_termination=False),
            std=3.0,
            train_steps=300,
            max_generations=800,
        ),
        "exclusive": _ANYWHERE_CLIFF_EVOLUTION.replace(
            proxy=RewardConfig("exclusive", ()),
            std=0.3,
            train_steps=1000,
            max_generations=600,
        ),
    },
    rows={
        "same": Row(
            _QL,
            {"count-based": _COUNTING_QL},
            published=_published(
                (-36, -17, -15, -15, -23),
                (-12, -12, -12, -12, -12),
                (-45, -45, -49, -50, -51),
                (-26, -12, -12, -12, -12),
                (-50, -48, -45, -12, -12),
                (-51, -50, -49, -12, -12),
                names=_CLIFF_NAMES,
            ),
        ),
        "varied": Row(
            _VARIED_QL,
            {"count-based": Varied(_COUNTING_QL, _VARIED_QL.ranges)},
            settings=_VARIED,
            published=_published(
                (-51, -52, -52, -54, -63),
                (-49, -46, -38, -30, -22),
                (-54, -55, -57, -54, -51),
                (-48, -34, -29, -29, -28),
                (-51, -50, -49, -36, -23),
                (-50, -50, -50, -40, -32),
                names=_CLIFF_NAMES,
            ),
        ),
        "unseen": Row(
            _SARSA,
            {"count-based": dataclasses.replace(_SARSA, count_bonus=0.1)},
            published=_published(
                (-39, -29, -39, -43, -47),
                (-19, -28, -32, -34, -38),
                (-44, -43, -43, -47, -52),
                (-28, -32, -37, -39, -45),
                (-49, -49, -46, -18, -19),
                (-50, -50, -48, -23, -23),
                names=_CLIFF_NAMES,
            ),
        ),
    },
    points=(250, 500, 1000, 2000, 5000),
    resolution=50,
    chosen_at=1000,
    steps=5000,
    evolved_in={
        kind: _CliffFromAnywhere()
        for kind in ("exclusive-potential", "exclusive", "additive")
    },
)

_DDQN = DDQN(
    learning_rate=2.5e-4,
    epsilon_start=1.0,
    epsilon_end=0.1,
    epsilon_decay=0.9,
    learning_starts=1,
    learning_starts_episode=1,
)
_DUELING = dataclasses.replace(_DDQN, dueling=True, feature_size=128)
_VARIED_DDQN = vary_like_ferreira2022(_DDQN)
_CARTPOLE_ICM = ferreira2022_icm("CartPole-v0")
_DEEP_NAMES = (*KINDS, NO_NETWORK, "ICM")


def _curious(agent: Any, icm: ICM) -> dict[str, Any]:
    return {"ICM": Curious(agent, icm), "RND": Curious(agent, RND())}


_CARTPOLE_EVOLUTION = EvolutionConfig(
    agent=_DDQN,
    train_steps=2000,
    population_size=32,
    num_seeds=1,
    fitness_episodes=4,
    std=0.5,
    max_generations=60,
    stop_return=197.0,
    validation_agents=32,
)

CARTPOLE = RewardTask(
    task="CartPole-v0",
    kinds=KINDS,
    # Without a potential, quadratic forms teach twice as much as a hidden layer does.
    evolutions=_each(
        POTENTIAL, _CARTPOLE_EVOLUTION, hidden_sizes=(16,), activation="tanh"
    )
    | _each(
        ("exclusive", "additive"),
        _CARTPOLE_EVOLUTION.replace(max_generations=150),
        hidden_sizes=(),
        quadratic=True,
    ),
    rows={
        "same": Row(
            _DDQN,
            _curious(_DDQN, _CARTPOLE_ICM),
            published=_published(
                (198, 199, 199, 198, 197, 197),
                (35, 46, 64, 132, 175, 187),
                (147, 170, 183, 188, 193, 193),
                (128, 147, 165, 167, 171, 173),
                (15, 42, 54, 114, 176, 190),
                (18, 38, 59, 122, 173, 190),
                names=_DEEP_NAMES,
            ),
        ),
        "varied": Row(
            _VARIED_DDQN,
            _curious(_VARIED_DDQN, _CARTPOLE_ICM),
            settings=_VARIED,
            published=_published(
                (196, 191, 188, 192, 191, 186),
                (66, 86, 112, 142, 155, 165),
                (145, 159, 168, 179, 188, 186),
                (150, 154, 163, 172, 179, 181),
                (37, 62, 98, 135, 154, 161),
                (46, 72, 109, 139, 155, 161),
                names=_DEEP_NAMES,
            ),
        ),
        "unseen": Row(
            _DUELING,
            _curious(_DUELING, _CARTPOLE_ICM),
            published=_published(
                (168, 154, 165, 165, 159, 147),
                (189, 194, 195, 197, 198, 192),
                (196, 158, 148, 158, 163, 166),
                (193, 169, 164, 169, 175, 172),
                (179, 193, 192, 193, 193, 186),
                (188, 190, 189, 191, 191, 188),
                names=_DEEP_NAMES,
            ),
        ),
    },
    points=(2500, 5000, 10_000, 20_000, 30_000, 49_000),
    resolution=100,
    chosen_at=2500,
    steps=10_000,
)

_TD3 = TD3(
    learning_rate=3e-4,
    target_update_rate=0.005,
    exploration_noise=0.1,
    hidden_sizes=(128, 128),
    batch_size=256,
    learning_starts=25_000,  # 50 episodes of random actions, two steps each
)
# For the curves that a CPU draws. Smaller batches take half the time, but their agents
# often swing the wrong way first.
_LIGHT_TD3 = dataclasses.replace(_TD3, learning_rate=1e-3, hidden_sizes=(64, 64))
# No wider, no deeper and with no larger batches than the agent itself: all agents of a
# group pay for the largest.
_VARIED_LIGHT_TD3 = Varied.of(
    _LIGHT_TD3,
    learning_rate=LogUniform(1e-3 / 3, 3e-3),
    width=LogUniform(21, 64, True),
    depth=Choice((1, 2)),
    batch_size=LogUniform(85, 256, True),
)
_INNER_TD3 = TD3(
    learning_rate=3e-3,
    target_update_rate=0.01,
    exploration_noise=0.1,
    policy_delay=1,
    hidden_sizes=(32, 32),
    batch_size=32,
    learning_starts=1000,
)
_MCC_PPO = PPO(
    learning_rate=3e-4,
    gae_lambda=1.0,  # Monte Carlo returns, unclipped gradients, as in the paper.
    max_grad_norm=math.inf,
    initial_std=0.5,
    entropy_coef=0.01,
    value_coef=1.0,
    num_envs=10,
    rollout_steps=200,
    num_epochs=80,
    num_minibatches=1,
    hidden_sizes=(64, 64),
)
_VARIED_TD3 = vary_like_ferreira2022(_TD3)
_MCC_ICM = ferreira2022_icm("MountainCarContinuous-v0")


class _StartsAnywhere(MountainCarContinuous):
    """The task, half of whose episodes start anywhere in the state space.

    From the valley nearly all candidates fail, and failing looks the same for all of
    them; from anywhere they can be told apart by how often they reach the goal.
    """

    starts = "half of them anywhere in the state space"

    def reset_env(self, key, params):
        """Draws an initial state."""
        _, state = super().reset_env(key, params)
        key_position, key_velocity, key_choice = jax.random.split(key, 3)
        low, high = params.min_position, params.goal_position
        position = jax.random.uniform(key_position, (), jnp.float32, low, high)
        limit = params.max_speed
        velocity = jax.random.uniform(key_velocity, (), jnp.float32, -limit, limit)
        is_anywhere = jax.random.bernoulli(key_choice)
        state = state.replace(
            position=jnp.where(is_anywhere, position, state.position),
            velocity=jnp.where(is_anywhere, velocity, state.velocity),
        )
        return self.get_obs(state), state


_MCC_PUBLISHED = {
    "same": _published(
        (-8, 48, 6, 2, 9, 12),
        (16, 58, 74, 62, 76, 81),
        (88, 92, 93, 93, 93, 93),
        (93, 93, 90, 92, 84, 80),
        (10, 66, 79, 74, 82, 84),
        (16, 68, 78, 69, 83, 85),
        names=_DEEP_NAMES,
    ),
    "varied": _published(
        (-32, 5, -5, -14, -7, -1),
        (14, 40, 39, 55, 67, 69),
        (22, 48, 56, 57, 60, 65),
        (57, 70, 68, 72, 74, 79),
        (9, 47, 45, 48, 62, 70),
        (12, 44, 45, 53, 68, 72),
        names=_DEEP_NAMES,
    ),
    "unseen": _published(
        (-7, -4, -4, -6, -4, -5),
        (63, 75, 81, 83, 87, 88),
        (47, 69, 82, 85, 88, 88),
        (76, 87, 91, 92, 91, 89),
        (53, 76, 84, 88, 91, 92),
        (57, 73, 80, 83, 88, 90),
        names=_DEEP_NAMES,
    ),
}

_MCC_EVOLUTION = EvolutionConfig(
    agent=_INNER_TD3,
    # Full power all the way costs up to -100, standing still nothing: without a floor
    # the agents of better and better candidates do less and less.
    scoring=FinalReturn(floor=0.0),
    train_steps=4000,
    population_size=64,
    num_seeds=1,
    fitness_episodes=8,
    std=0.3,
    max_generations=80,
    stop_return=math.inf,
)

MOUNTAIN_CAR_CONTINUOUS = RewardTask(
    task="MountainCarContinuous-v0",
    kinds=("exclusive", "additive"),
    evolutions=_each(
        # Paid by the network alone, some agents find out after a while that it pays
        # more not to arrive; only longer training shows it.
        ("exclusive",),
        _MCC_EVOLUTION.replace(train_steps=8000, max_generations=40),
        hidden_sizes=(),
        quadratic=True,
    )
    | _each(("additive",), _MCC_EVOLUTION, hidden_sizes=(), quadratic=True),
    # Paid in full, one or two of five agents of the curves never reach the goal.
    scales={"exclusive": 0.1},
    rows={
        "same": Row(
            _TD3,
            _curious(_TD3, _MCC_ICM),
            repeat=2,
            published=_MCC_PUBLISHED["same"],
        ),
        "varied": Row(
            _VARIED_TD3,
            _curious(_VARIED_TD3, _MCC_ICM),
            repeat=2,
            settings=_VARIED,
            published=_MCC_PUBLISHED["varied"],
        ),
        "unseen": Row(
            _MCC_PPO,
            _curious(_MCC_PPO, ferreira2022_icm("MountainCarContinuous-v0", ppo=True)),
            repeat=5,
            settings="the paper's settings, tanh units",
            published=_MCC_PUBLISHED["unseen"],
        ),
    },
    points=(75_000, 100_000, 125_000, 150_000, 200_000, 245_000),
    resolution=5000,
    chosen_at=75_000,
    steps=100_000,
    small={"networks": 3, "agents": 5},
    light={
        "same": Row(
            _LIGHT_TD3,
            _curious(_LIGHT_TD3, _MCC_ICM),
            repeat=2,
            settings="64 x 64 units, learning rate 1e-3, otherwise the paper's",
            published=_MCC_PUBLISHED["same"],
        ),
        "varied": Row(
            _VARIED_LIGHT_TD3,
            _curious(_VARIED_LIGHT_TD3, _MCC_ICM),
            repeat=2,
            settings="learning rate 1/3 to 3 times 1e-3, one or two layers of 21 to 64 "
            "units, batches of 85 to 256",
            published=_MCC_PUBLISHED["varied"],
        ),
    },
    evolved_in={kind: _StartsAnywhere() for kind in ("exclusive", "additive")},
)


_CHEETAH_TD3 = dataclasses.replace(_TD3, learning_starts=20_000)
_CHEETAH_PPO = PPO(
    learning_rate=1e-5,
    gae_lambda=1.0,
    max_grad_norm=math.inf,
    initial_std=0.1,
    entropy_coef=0.001,
    value_coef=1.0,
    num_envs=1,
    rollout_steps=1000,
    num_epochs=10,
    num_minibatches=1,
    hidden_sizes=(128, 128),
)
_VARIED_CHEETAH_TD3 = vary_like_ferreira2022(_CHEETAH_TD3)
_CHEETAH_ICM = ferreira2022_icm("HalfCheetah-v5")
_CHEETAH_KINDS = (*KINDS, *INFO_KINDS, "exclusive-info-only", "additive-info-only")

HALF_CHEETAH = RewardTask(
    task="HalfCheetah-v5",
    kinds=_CHEETAH_KINDS,
    evolutions=_each(
        _CHEETAH_KINDS,
        EvolutionConfig(
            agent=dataclasses.replace(
                _CHEETAH_TD3,
                learning_rate=3e-3,
                discount=0.98,
                batch_size=192,
                policy_delay=1,
            ),
            scoring=AreaUnderCurve(),
            train_steps=100_000,
            population_size=16,
            num_seeds=1,
            std=0.1,
            max_generations=50,
            stop_return=math.inf,
        ),
        hidden_sizes=(128,),
    ),
    rows={
        "same": Row(_CHEETAH_TD3, _curious(_CHEETAH_TD3, _CHEETAH_ICM)),
        "varied": Row(
            _VARIED_CHEETAH_TD3,
            _curious(_VARIED_CHEETAH_TD3, _CHEETAH_ICM),
            settings=_VARIED,
        ),
        "unseen": Row(
            _CHEETAH_PPO,
            _curious(_CHEETAH_PPO, ferreira2022_icm("HalfCheetah-v5", ppo=True)),
        ),
    },
    points=(100_000, 200_000, 300_000, 400_000, 500_000),
    resolution=1000,
    chosen_at=500_000,
    steps=2000,
    # What a CPU can do: that it runs, not how well it learns.
    small={
        "kinds": ("additive", "additive-info"),
        "networks": 1,
        "agents": 1,
        "rows": ("same",),
        "population": 4,
        "generations": 1,
        "train_steps": 1000,
    },
)

TASKS = {
    "cliff": CLIFF,
    "cartpole": CARTPOLE,
    "mountain_car_continuous": MOUNTAIN_CAR_CONTINUOUS,
    "half_cheetah": HALF_CHEETAH,
}

"""Reward networks for the cliff walk of Sutton and Barto: tabular agents."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from benchmarks.reward_networks.tasks.task import (
    KINDS,
    NO_NETWORK,
    VARIED_SETTINGS,
    RewardTask,
    Row,
)
from envs.cliff import START, Cliff, CliffState
from jaxrl_se.agents import SARSA, QLearning
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.hyperparameters import (
    Uniform,
    Varied,
)
from jaxrl_se.reward_network import RewardConfig
from jaxrl_se.scoring import FinalReturn, StepsToSolve

# Mean returns that the paper's figures show at `points`, by row and column.
PUBLISHED: dict[str, dict[str, tuple[float | None, ...]]] = {
    "same": {
        "exclusive-potential": (-36, -17, -15, -15, -23),
        "additive-potential": (-12, -12, -12, -12, -12),
        "exclusive": (-45, -45, -49, -50, -51),
        "additive": (-26, -12, -12, -12, -12),
        NO_NETWORK: (-50, -48, -45, -12, -12),
        "count-based": (-51, -50, -49, -12, -12),
    },
    "varied": {
        "exclusive-potential": (-51, -52, -52, -54, -63),
        "additive-potential": (-49, -46, -38, -30, -22),
        "exclusive": (-54, -55, -57, -54, -51),
        "additive": (-48, -34, -29, -29, -28),
        NO_NETWORK: (-51, -50, -49, -36, -23),
        "count-based": (-50, -50, -50, -40, -32),
    },
    "unseen": {
        "exclusive-potential": (-39, -29, -39, -43, -47),
        "additive-potential": (-19, -28, -32, -34, -38),
        "exclusive": (-44, -43, -43, -47, -52),
        "additive": (-28, -32, -37, -39, -45),
        NO_NETWORK: (-49, -49, -46, -18, -19),
        "count-based": (-50, -50, -48, -23, -23),
    },
}

_QL = QLearning(learning_rate=1.0, discount=0.8, epsilon=0.1)
_COUNTING_QL = dataclasses.replace(_QL, count_bonus=0.1)
_SARSA = SARSA(learning_rate=1.0, discount=0.8, epsilon=0.01)
_RANGES = {"learning_rate": Uniform(0.1, 1.0), "discount": Uniform(0.1, 1.0)}
_VARIED_QL = Varied.of(_QL, **_RANGES)


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
            published=PUBLISHED["same"],
        ),
        "varied": Row(
            _VARIED_QL,
            {"count-based": Varied.of(_COUNTING_QL, **_RANGES)},
            settings=VARIED_SETTINGS,
            published=PUBLISHED["varied"],
        ),
        "unseen": Row(
            _SARSA,
            {"count-based": dataclasses.replace(_SARSA, count_bonus=0.1)},
            published=PUBLISHED["unseen"],
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

"""How a task is evolved that nobody has set anything for.

One recipe for all tasks; what differs between them is read off a `Probe`. The learned
environment has one step, standard normal starts within the range of observations that
random play meets, and rewards by one small hidden layer, bounded. Evolution looks for
rewards whose best response does well, which costs no training; agents of two kinds then
say whether they can learn them. Where they cannot, candidates are scored by agents. At
the end episodes start where the best response goes, if agents learn as much from that
(`jaxrl_se.met_starts`).

The best response sees observations with noise, since agents are only about right.
Where agents lag behind it, the search goes on from there with a wider deviation, its
candidates scored by agents. A search that is stuck begins again with a smaller one,
since no deviation suits all tasks. What was compared, on which seeds, and what is known
to fail stands in `docs/results/any_task.md`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from envs.spaces import Spaces
from jaxrl_runs import values
from jaxrl_runs.values import Integer, setting
from jaxrl_se.agents import DDQN, PPO, SAC, BestResponse
from jaxrl_se.agents.observations import can_normalize
from jaxrl_se.config import EvolutionConfig, SyntheticConfig
from jaxrl_se.outside_task import OutsideTask, is_outside
from jaxrl_se.probing import Probe
from jaxrl_se.rounds import whole_steps

HIDDEN_SIZES = (32,)
LINEAR_ABOVE = 16  # numbers in an observation; a table where these are one-hot states
ACTIVATION = "tanh"
REWARD_BOUND = 2.0  # Normalised actions are in [-1, 1]; see `SyntheticEnv`.
OBS_NOISE = 0.3  # 1 would be half of the probed range.
TRAIN_STEPS = 1000
POPULATION_SIZE = 64
PATIENCE = 50
STEPS_PER_CANDIDATE, MOST_EPISODES = 64, 8  # short episodes say little by themselves
RESTARTS, RESTART_STD = 3, 0.3
MIN_GENERATIONS, MAX_GENERATIONS = 12, 3000
POPULATION_WITH_AGENTS = 32  # each of which is trained in
GENERATIONS_WITH_AGENTS = (40, 20)  # agents that learn values, then sampled ones
EPISODES_WITH_AGENTS = 2
STD_WITH_AGENTS = 0.15  # by then the first search's has shrunk too far to move


@dataclasses.dataclass(frozen=True)
class Budget:
    """What an evolution may cost.

    Attributes:
      real_steps: Steps in the task, for probing, fitness and validation. It is kept to
        about a generation: no other one begins once the steps are spent.
    """

    real_steps: int = setting(3_000_000, Integer(at_most=2**62))

    def __post_init__(self):
        values.check(self)


class BudgetError(ValueError):
    """A budget does not pay for the smallest search.

    Attributes:
      needed: Steps that do.
      length: Of an episode, as it was reckoned.
    """

    def __init__(self, text: str, needed: int, length: int):
        super().__init__(text)
        self.needed, self.length = needed, length


def default_agents(spaces: Spaces) -> tuple[Any, Any]:
    """Agents of two kinds that learn within `TRAIN_STEPS` steps of a bandit.

    One learns values from a buffer, the other a stochastic policy from what it does: a
    reward that teaches both leaves little to chance. Learning rates are high because
    training is short.
    """
    shared: dict[str, Any] = {
        "learning_rate": 5e-3,
        "hidden_sizes": (32, 32),
        "normalize_observations": can_normalize(spaces),
    }
    replayed = shared | {
        "activation": "tanh",
        "target_update_rate": 0.05,
        "learning_starts": 8,
        "batch_size": 32,
    }
    sampled = PPO(
        **shared, num_envs=10, rollout_steps=10, num_epochs=4, num_minibatches=4
    )
    if spaces.num_actions is not None:
        return DDQN(**replayed, epsilon_end=0.1), sampled
    return SAC(**replayed), sampled


def default_proxy(probe: Probe) -> SyntheticConfig:
    """The shape of the learned environment."""
    return SyntheticConfig(
        hidden_sizes=_hidden_sizes(probe.spaces),
        activation=ACTIVATION,
        initial_states="normal",
        reward_bound=REWARD_BOUND,
        obs_range=probe.obs_range,
    )


def default_config(
    task: tuple[Any, Any] | OutsideTask,
    probe: Probe,
    budget: Budget | None = None,
    *,
    with_agents: bool = True,
) -> EvolutionConfig:
    """The configuration of the search, which trains no agents.

    Args:
      task: A gymnax pair `(env, params)`, or a task outside JAX.
      probe: What random play showed of it.
      budget: Steps that the evolution may take.
      with_agents: Whether a fifth of them is left for `config_with_agents`.

    Returns:
      An `EvolutionConfig` whose first stage, a best response, is its only one; agents
      of two kinds validate it.

    Raises:
      BudgetError: The budget does not pay for the smallest search.
    """
    budget = budget or Budget()
    length = _longest_episode(task, probe)
    per_generation = POPULATION_SIZE * length
    _check_pays(budget, length, probe.steps)
    steps = budget.real_steps * (4 if with_agents else 5) // 5
    values, sampled = default_agents(probe.spaces)
    per_candidate = round(STEPS_PER_CANDIDATE / max(probe.mean_length, 1.0))
    return EvolutionConfig(
        proxy=default_proxy(probe),
        agent=(_best_response(probe.spaces), values, sampled),
        algorithms="stages",
        stages=(MAX_GENERATIONS, MAX_GENERATIONS),
        train_steps=whole_steps(TRAIN_STEPS, (values, sampled)),
        population_size=POPULATION_SIZE,
        num_seeds=1,
        fitness_episodes=min(max(per_candidate, 1), MOST_EPISODES),
        std=1.0,
        patience=PATIENCE,
        restarts=RESTARTS,
        restart_std=RESTART_STD,
        max_generations=MAX_GENERATIONS,
        max_steps=max(steps, MIN_GENERATIONS * per_generation + probe.steps),
        validation_every=20,
        validation_agents=8,
        validation_episodes=8,
    )


def check_budget(task: tuple[Any, Any] | OutsideTask, budget: Budget | None) -> None:
    """Raises what is known of a budget before the task is played.

    Raises:
      BudgetError: It does not pay for the smallest search.
    """
    _check_pays(budget or Budget(), _time_limit(task) or 1, 0)


def _check_pays(budget: Budget, length: int, spent: int) -> None:
    """Raises BudgetError unless it pays for episodes of so many steps."""
    needed = MIN_GENERATIONS * POPULATION_SIZE * length + spent
    if budget.real_steps < needed:
        raise BudgetError(
            f"budget.real_steps must be at least {needed:,} for episodes of "
            f"{length} steps ({MIN_GENERATIONS} generations of {POPULATION_SIZE} "
            f"candidates with an episode each), got {budget.real_steps:,}",
            needed,
            length,
        )


def config_with_agents(
    config: EvolutionConfig,
    task: tuple[Any, Any] | OutsideTask,
    probe: Probe,
    real_steps: int,
) -> EvolutionConfig:
    """The configuration of a search that goes on, scored by agents that train.

    Args:
      config: What `default_config` gave, with changes or without.
      task: What it was given.
      probe: What it was given.
      real_steps: Steps in the task that are left.

    Returns:
      An `EvolutionConfig` in which the two agents take turns, one after the other.
    """
    episodes = max(config.fitness_episodes, EPISODES_WITH_AGENTS)
    length = _longest_episode(task, probe)
    affordable = real_steps // (POPULATION_WITH_AGENTS * episodes * length)
    generations = min(max(affordable, 2), sum(GENERATIONS_WITH_AGENTS))
    values = generations * GENERATIONS_WITH_AGENTS[0] // sum(GENERATIONS_WITH_AGENTS)
    return config.replace(
        stages=(0, values),
        max_generations=generations,
        max_steps=None,
        population_size=POPULATION_WITH_AGENTS,
        fitness_episodes=episodes,
        std=STD_WITH_AGENTS,
        restarts=0,
        validation_every=4,
    )


def _longest_episode(task: tuple[Any, Any] | OutsideTask, probe: Probe) -> int:
    """Steps; good agents' episodes may be as long as the limit."""
    return _time_limit(task) or max(2 * probe.max_length, 1)


def _time_limit(task: tuple[Any, Any] | OutsideTask) -> int | None:
    """Steps, where it is known."""
    if is_outside(task):
        limit = task.time_limit  # type: ignore
    else:
        limit = getattr(task[1], "max_steps_in_episode", None)  # type: ignore
    return None if limit is None else int(limit)


def _best_response(spaces: Spaces) -> BestResponse:
    # States by number are near no others.
    noise = OBS_NOISE if spaces.num_states is None else 0.0
    return BestResponse(_hidden_sizes(spaces), ACTIVATION, REWARD_BOUND, noise)


def _hidden_sizes(spaces: Spaces) -> tuple[int, ...]:
    """Of the learned reward."""
    return () if spaces.obs_size > LINEAR_ABOVE else HIDDEN_SIZES

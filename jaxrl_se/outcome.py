"""What came of an evolution, in words: how good, how sure, and what to try if not."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from envs.steps import StepKind
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se.probing import Probe

# Less of the way from random to the best response, and agents do not learn well.
ENOUGH = 0.9
PLACES = {"real": "task", "model": "world model", "synthetic": "environment"}


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """Fresh agents, trained in the result and tested on keys that nothing else used.

    Attributes:
      returns: Mean return in the task of each agent, by kind of agent.
      random_return: Mean return of random play; NaN if it is not known.
      best_response: Mean return of the policy that the learned reward asks for, or None
        where the environment has none.
      solved_return: The return that counts as solved, or None.
      policy: Whose `random_return` it is, in words.
      kind: Whether the task was real or a model.
      train_steps: How long these agents trained in the environment; None if that is not
        known.
      is_compared: Whether agents could train in the task itself, from which the search
        begins again where they are ahead: outside JAX they cannot.
    """

    returns: dict[str, tuple[float, ...]]
    random_return: float
    best_response: float | None = None
    solved_return: float | None = None
    policy: str = "random"
    kind: StepKind = "real"
    train_steps: int | None = None
    is_compared: bool = True

    @property
    def worst_kind(self) -> str:
        """The kind of agent with the lowest mean."""
        return min(self.returns, key=lambda kind: np.mean(self.returns[kind]))

    @property
    def mean(self) -> float:
        """Mean return of the worst kind."""
        return float(np.mean(self.returns[self.worst_kind]))

    @property
    def overall(self) -> float:
        """Mean over the kinds of agents and the best response."""
        means = [float(np.mean(each)) for each in self.returns.values()]
        response = [] if self.best_response is None else [self.best_response]
        return float(np.mean(means + response))

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of that mean over agents."""
        low, high = bootstrap_ci95(np.array(self.returns[self.worst_kind]))
        return float(low), float(high)

    @property
    def is_solved(self) -> bool | None:
        """Whether the worst kind reaches the threshold; None if there is none."""
        return None if self.solved_return is None else self.mean >= self.solved_return

    @property
    def closed(self) -> float:
        """Share of the way from random to the best response that the worst kind goes.

        1 where that way is not known, or where the best response is no better.
        """
        response = -math.inf if self.best_response is None else self.best_response
        if not response > self.random_return:
            return 1.0
        return (self.mean - self.random_return) / (response - self.random_return)

    def problem(self) -> str | None:
        """What is wrong with the result and what to try; None if nothing is."""
        low, mean = self.ci95[0], self.mean
        low = mean if math.isnan(low) else low  # One agent has no interval.
        more = "model_steps" if self.kind == "model" else "real steps (budget)"
        if self.closed < ENOUGH:
            return (
                f"{self.worst_kind} learns less than the environment knows (its best "
                f"response has {self.best_response:.4g}). Train agents in it for "
                "longer, or try with_agents=True where that was not tried"
            )
        if self.policy != "random" and low <= self.random_return:
            return (
                f"no better than {self.policy} play ({self.random_return:.4g}): as it "
                "should be where that was good, as an expert's is. Otherwise try "
                f"another seed, more {more}, or rows that show what is good"
            )
        if math.isnan(mean) or low <= self.random_return:
            return (
                f"failed: agents do no better than {self.policy} play "
                f"({self.random_return:.4g}). Try another seed, more {more}, or a "
                "task whose reward says earlier what is good"
            )
        if self.is_solved is False:
            return (
                f"not solved: {self.solved_return:g} is the threshold. Try more {more} "
                "or another seed"
            )
        return None

    def __str__(self) -> str:
        """How good and how sure, in one line."""
        kinds = []
        for kind, returns in self.returns.items():
            low, high = bootstrap_ci95(np.array(returns))
            kinds.append(
                f"{len(returns)} {kind} {np.mean(returns):.4g} [{low:.4g}, {high:.4g}]"
            )
        trained = ""
        if self.train_steps is not None:
            trained = f", after {self.train_steps:,} steps of training"
        place = PLACES[self.kind]
        text = f"fresh agents in the {place}{trained}: " + ", ".join(kinds)
        if self.best_response is not None:
            text += f"; best response {self.best_response:.4g}"
        if not math.isnan(self.random_return):
            text += f"; {self.policy} {self.random_return:.4g}"
        if not self.is_compared and self.solved_return is None:
            text += (
                ". Whether more is possible is not known: no agent was trained in the "
                "task itself"
            )
        return text


def warn_of(probe: Probe) -> str | None:
    """What random play says will make a search hard, or None."""
    if not probe.episodes:
        return (
            f"no episode ended within {probe.steps:,} random steps: give the task a "
            "time limit"
        )
    if not probe.reward_varies:
        return (
            "random play never met two different rewards: the search is blind until "
            "chance finds one"
        )
    return None

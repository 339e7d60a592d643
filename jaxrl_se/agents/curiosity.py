"""An agent that is paid a bonus for novelty."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct

from envs.spaces import Spaces
from jaxrl_se.agents.off_policy import OffPolicyAgent, Trained
from jaxrl_se.agents.ppo import PPO
from jaxrl_se.hyperparameters import Varied
from jaxrl_se.networks import Weights


@struct.dataclass
class Curious:
    """An agent with an intrinsic reward: `Curious(DDQN(), RND())`.

    It is an agent itself: whatever trains agents trains it. Its test policy is the
    agent's. Stop rules see the environment's rewards alone.

    An agent with a replay buffer lets the bonus learn from each of its own minibatches
    and is paid for these rows by what the bonus has just become, so that old
    transitions are paid by what is novel today. PPO is paid for an iteration's steps
    before it learns from them; then the bonus makes one pass over them in PPO's
    minibatches (a single step of the whole iteration, as in Ferreira et al., 2022, if
    there is one minibatch).

    Both parts can be `Varied`. To vary an agent's hyperparameters write
    `Curious(Varied.of(agent, ...), bonus)`, and those of the bonus likewise.

    Attributes:
      agent: `DDQN`, `TD3`, `DDPG`, `DiscreteTD3`, `SAC` or `PPO`, or one `Varied`.
      bonus: `ICM` or `RND`, or whatever else follows `jaxrl_se.agents.bonus.Bonus`.
    """

    agent: Any
    bonus: Any

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        agent = self.agent.agent if isinstance(self.agent, Varied) else self.agent
        if not isinstance(agent, OffPolicyAgent | PPO):
            raise ValueError(
                "agent: Curious needs an agent that takes a bonus (DDQN, TD3, DDPG, "
                f"DiscreteTD3, SAC or PPO), got {type(agent).__name__}"
            )
        self.agent.check(spaces)
        self.bonus.check(spaces)

    def policy(self, spaces: Spaces, weights: Weights) -> Any:
        """The agent's test policy."""
        return self.agent.policy(spaces, weights)

    def train(self, env: Any, params: Any, key: jax.Array, **budget: Any) -> Trained:
        """Trains the agent with the bonus (see `OffPolicyAgent.train`).

        The key is the agent's: what it draws is what it draws without the bonus.
        """
        bonus = self.bonus
        if isinstance(bonus, Varied):
            bonus = bonus.draw(jax.random.fold_in(key, len("bonus")))
        return self.agent.train(env, params, key, bonus=bonus, **budget)

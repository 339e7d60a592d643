"""An agent that is paid a bonus for novelty."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct

from envs.spaces import Spaces
from jaxrl_se.agents.agent import AGENT, Agent, Transition
from jaxrl_se.agents.bonus import BONUS
from jaxrl_se.agents.off_policy import OffPolicyAgent
from jaxrl_se.agents.ppo import PPO
from jaxrl_se.hyperparameters import Varied
from jaxrl_se.networks import Weights


@struct.dataclass
class Curious(Agent):
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
      bonus_key: The key that the bonus starts with; `prepare` draws it.
    """

    agent: Any
    bonus: Any
    bonus_key: Any = None

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        AGENT.check("agent", self.agent)
        agent, bonus = (
            part.agent if isinstance(part, Varied) else part
            for part in (self.agent, self.bonus)
        )
        BONUS.check("bonus", bonus)
        if not isinstance(agent, OffPolicyAgent | PPO):
            raise ValueError(
                "agent: Curious needs an agent that takes a bonus (DDQN, TD3, DDPG, "
                f"DiscreteTD3, SAC or PPO), got {type(agent).__name__}"
            )
        self.agent.check(spaces)
        bonus.check(spaces)

    @property
    def num_envs(self) -> int:
        """The agent's."""
        return self.agent.num_envs

    @property
    def rollout_steps(self) -> int:
        """The agent's."""
        return self.agent.rollout_steps

    @property
    def discount(self) -> Any:
        """The agent's."""
        return self.agent.discount

    def prepare(self, key: jax.Array) -> tuple[Curious, jax.Array]:
        """Draws what is varied of agent and bonus, and a key for the bonus.

        What the agent draws later is what it draws without the bonus.
        """
        bonus = self.bonus
        if isinstance(bonus, Varied):
            bonus = bonus.draw(jax.random.fold_in(key, len("bonus")))
        agent, key = self.agent.prepare(key)
        return Curious(agent, bonus, jax.random.fold_in(key, 3)), key

    def start(self, spaces: Spaces, key: jax.Array, **training: Any) -> Any:
        """The agent's state, with the bonus's in it."""
        state = self.agent.start(spaces, key, **training)
        return state.replace(curiosity=self.bonus.init(spaces, self.bonus_key))

    def draw(
        self, spaces: Spaces, key_act: jax.Array, key_update: jax.Array, num_rounds: int
    ) -> tuple[Any, Any]:
        """The agent's draws."""
        return self.agent.draw(spaces, key_act, key_update, num_rounds)

    def act(
        self, spaces: Spaces, state: Any, obs: jax.Array, draw: Any
    ) -> tuple[jax.Array, Any]:
        """As the agent acts."""
        return self.agent.act(spaces, state, obs, draw)

    def observe(self, spaces: Spaces, state: Any, transition: Transition) -> Any:
        """As the agent observes."""
        return self.agent.observe(spaces, state, transition)

    def update(self, spaces: Spaces, state: Any, draw: Any) -> Any:
        """The agent's update, with the bonus."""
        return self.agent.update(spaces, state, draw, bonus=self.bonus)

    def policy_weights(self, spaces: Spaces, state: Any) -> Weights:
        """The agent's."""
        return self.agent.policy_weights(spaces, state)

    def policy(self, spaces: Spaces, weights: Weights) -> Any:
        """The agent's test policy."""
        return self.agent.policy(spaces, weights)

    def metrics(self, spaces: Spaces, state: Any) -> dict[str, jax.Array]:
        """The agent's."""
        return self.agent.metrics(spaces, state)

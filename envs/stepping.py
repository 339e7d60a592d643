"""One step of any gymnax 1.x environment, with every part named."""

from typing import Any, NamedTuple

import jax


class Step(NamedTuple):
    """What ``env.step`` gives, sorted into the episode it belongs to.

    Attributes:
        obs: Observation to act on next; after the end of an episode it is the first
            of the next one.
        state: The state that belongs to ``obs``.
        next_obs: Observation that the action led to, also at the end of an episode.
        reward: Reward of the action.
        terminated: Whether the task ended the episode.
        truncated: Whether the time limit ended the episode.
        info: The rest of the environment's own info.
    """

    obs: Any
    state: Any
    next_obs: Any
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: dict[Any, Any]


def step(env: Any, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
    """Step an environment that resets itself at the end of an episode.

    It goes through the environment's public ``step``, so wrappers that change only
    that method are respected.

    Raises:
        ValueError: If ``env.step`` does not follow gymnax 1.x.
    """
    outputs = env.step(key, state, action, params)
    if len(outputs) != 6:
        raise ValueError(
            "env: expected the six values of gymnax 1.x's step (obs, state, reward, "
            f"terminated, truncated, info), got {len(outputs)}"
        )
    obs, state, reward, terminated, truncated, info = outputs
    if "final_observation" not in info:
        raise ValueError(
            "env: step must return the observation before the reset as "
            "info['final_observation'], as gymnax 1.x does"
        )
    redundant = ("final_observation", "terminated", "truncated")
    rest = {name: value for name, value in info.items() if name not in redundant}
    return Step(
        obs, state, info["final_observation"], reward, terminated, truncated, rest
    )

"""The intrinsic curiosity modules of Ferreira et al. (2022), their baseline by task."""

from __future__ import annotations

from jaxrl_se.agents import ICM

_TUNED = {
    "CartPole-v0": ICM(learning_rate=1e-5, beta=0.05, eta=0.03),
    "MountainCarContinuous-v0": ICM(learning_rate=5e-4, beta=0.1, eta=0.01),
    "HalfCheetah-v5": ICM(learning_rate=1e-5, beta=0.001, eta=0.1),
}
_TUNED_FOR_PPO = {"HalfCheetah-v5": ICM(learning_rate=1e-4, beta=0.05, eta=0.03)}


def ferreira2022_icm(task: str, *, ppo: bool = False) -> ICM:
    """Their ICM as tuned for a task, with 32 features and hidden layers of 128.

    Args:
      task: "CartPole-v0" (tuned for DDQN, also used with Dueling),
        "MountainCarContinuous-v0" (TD3 and PPO) or "HalfCheetah-v5" (there v3).
      ppo: Whether the agent is PPO, for which HalfCheetah has values of its own.

    Raises:
      ValueError: The task is none of these.
    """
    if task not in _TUNED:
        raise ValueError(f"task must be one of {', '.join(_TUNED)}, got {task!r}")
    tuned = _TUNED | _TUNED_FOR_PPO if ppo else _TUNED
    return tuned[task].replace(feature_size=32)  # type: ignore

"""Small evolutions that several tests share, so that each compiles once."""

import jax.numpy as jnp
from probe_env import PROBES, Probe

from jaxrl_se import DDQN, EvolutionConfig, SyntheticConfig

CARTPOLE = EvolutionConfig(
    proxy=SyntheticConfig(hidden_sizes=(4,)),
    agent=DDQN(hidden_sizes=(8,), batch_size=8, buffer_size=64),
    train_steps=40,
    population_size=4,
    num_seeds=1,
    std=0.5,
    max_generations=4,
    validation_every=1,
    validation_agents=2,
    validation_episodes=2,
    group_size=2,  # whatever the number of devices
)


class FailingProbe(Probe):
    """A user's own task: the first action fails, the second earns 1."""

    def step_env(self, key, state, action, params):
        obs, state, reward, last, info = super().step_env(key, state, action, params)
        return obs, state, jnp.where(action == 0, jnp.nan, reward), last, info


PROBE_TASK = (FailingProbe(), PROBES["reward by action"])
PROBE_CONFIG = CARTPOLE.replace(
    proxy=SyntheticConfig(hidden_sizes=()),
    agent=CARTPOLE.agent.replace(learning_rate=0.03, learning_starts=4),
    population_size=8,
    num_seeds=2,
    max_generations=10,
    validation_every=2,
    stop_return=1.0,
)

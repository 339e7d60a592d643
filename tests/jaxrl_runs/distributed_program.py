"""One process of a small job: an evolution with checkpoints.

python distributed_program.py ADDRESS NUM_PROCESSES PROCESS OUT [DIES_AFTER]
"""

import os
import sys

address, num_processes, process, out = sys.argv[1:5]
dies_after = int(sys.argv[5]) if len(sys.argv) > 5 else None
num_processes, process = int(num_processes), int(process)
os.environ["JAX_NUM_CPU_DEVICES"] = str(2 // num_processes)
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=1"

import jax

from jaxrl_runs.devices import join

if num_processes > 1:
    join(address, num_processes, process)

from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_se import EvolutionConfig, SyntheticConfig, evolve
from jaxrl_se.agents import BestResponse

CONFIG = EvolutionConfig(
    proxy=SyntheticConfig(hidden_sizes=(), initial_states="normal"),
    agent=BestResponse(hidden_sizes=()),
    train_steps=1,
    population_size=4,
    num_seeds=1,
    max_generations=4,
    stop_return=300.0,
    validation_every=1,
    validation_agents=3,  # which two devices cannot share evenly
    validation_episodes=2,
)


def on_generation(row):
    if process == 1 and row["generation"] == dies_after:
        os._exit(7)


result = evolve(
    "CartPole-v1",
    CONFIG,
    0,
    out=out,
    resume=True,
    checkpoint_every=1,
    on_generation=on_generation,
)
assert jax.device_count() == 2
print("sha256", tree_sha256(result.params.weights))
print("validations", [row["validation_mean"] for row in result.progress.rows])
print("real_steps", result.progress.real_steps)

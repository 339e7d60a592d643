"""One process of a small job: an evolution with checkpoints.

python distributed_program.py ADDRESS NUM_PROCESSES PROCESS OUT [DIES_AFTER|resume]

Alone, it is a function that the tests call.
"""

import json
import math
import os
import sys


def job(out, process=0, dies_after=None, resume=False):
    """What an evolution, and one outside JAX, came to; the same in all processes."""
    import jax

    import envs
    from jaxrl_runs.checkpoints import tree_sha256
    from jaxrl_se import EvolutionConfig, SyntheticConfig, evolve
    from jaxrl_se.agents import BestResponse

    config = EvolutionConfig(
        proxy=SyntheticConfig(hidden_sizes=(), initial_states="normal"),
        agent=BestResponse(hidden_sizes=()),
        train_steps=1,
        population_size=4,
        num_seeds=1,
        max_generations=4,
        validation_every=1,
        validation_agents=3,  # which two devices cannot share evenly
        validation_episodes=2,
    )

    def on_generation(row):
        if process == 1 and row["generation"] == dies_after:
            os._exit(7)

    assert jax.device_count() == 2
    result = evolve(
        envs.make("CartPole-v1"),  # as a pair: no return ends it, all are validated
        config,
        0,
        out=out,
        resume=resume,
        checkpoint_every=1,
        on_generation=on_generation,
    )
    # Outside JAX each process plays with its own share of the candidates.
    task = envs.external("CartPole-v1", engine="gymnasium", time_limit=30)
    config = config.replace(stop_return=math.inf, max_generations=2)
    outside = evolve(task, config, 0, progress=False)
    return {
        "sha256": tree_sha256(result.params.weights),
        "outside_sha256": tree_sha256(outside.params.weights),
        "outside_steps": outside.progress.real_steps,
        "own_outside_steps": task.cost.steps,
        "rows": [
            {k: v for k, v in row.items() if "seconds" not in k}
            for row in result.progress.rows
        ],
    }


def main():
    address, num_processes, process, out = sys.argv[1:5]
    num_processes, process = int(num_processes), int(process)
    resume = sys.argv[5:] == ["resume"]
    dies_after = int(sys.argv[5]) if sys.argv[5:] and not resume else None
    os.environ["JAX_NUM_CPU_DEVICES"] = str(2 // num_processes)

    from jaxrl_runs.devices import join

    join(address, num_processes, process, timeout=30)
    print(json.dumps(job(out, process, dies_after, resume)))


if __name__ == "__main__":
    main()

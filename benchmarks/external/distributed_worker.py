"""One process of `benchmarks.distributed`."""

from __future__ import annotations

import json
import sys

from jaxrl_runs.devices import join


def main() -> None:
    """Joins the job, evolves, and prints what came of it as the last line."""
    address, num_processes, process, out, *numbers = sys.argv[1:]
    generations, population, seed = map(int, numbers)
    if int(num_processes) > 1:
        join(address, int(num_processes), int(process))
    # Importing these asks JAX for its devices.
    from benchmarks.synthetic.cartpole import CARTPOLE
    from jaxrl_runs.checkpoints import tree_sha256
    from jaxrl_se import evolve

    config = CARTPOLE.configs["one-step"].replace(
        population_size=population,
        max_generations=generations,
        stop_return=float("inf"),
        group_size=1,  # whatever the number of devices
    )
    result = evolve("CartPole-v1", config, seed, out=out, progress=False)
    report = {
        "params_sha256": tree_sha256(result.params.weights),
        "seconds": result.progress.seconds,
        "cpu_seconds": result.progress.cpu_seconds,
        "compile_seconds": result.compile_seconds,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

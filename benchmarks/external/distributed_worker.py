"""One process of `benchmarks.distributed`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from jaxrl_runs.devices import join

_REPEATS = 20


def shortest_seconds(call: Callable[[], Any]) -> float:
    """Of some repeats, once it is compiled: others may use the machine as well."""
    import jax

    seconds = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def exchange_seconds(population: int) -> float:
    """What it takes until every process has the fitness of all candidates."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from jaxrl_runs.devices import AXIS, population_mesh, replicate

    mesh = population_mesh()
    shares = NamedSharding(mesh, PartitionSpec(AXIS))
    own = jax.jit(lambda: jnp.zeros(population), out_shardings=shares)()
    exchange = jax.jit(lambda fitness: replicate(fitness, mesh))
    return shortest_seconds(lambda: exchange(own))


def strategy_seconds(config: Any, weights: Any) -> float:
    """What every process does alike: it draws all candidates, and hears of them."""
    import jax
    import jax.numpy as jnp

    from jaxrl_se.strategies import make_strategy

    strategy = make_strategy(
        config.strategy,
        config.population_size,
        weights,
        std=config.std,
        learning_rate=config.strategy_learning_rate,
    )

    @jax.jit
    def ask_and_tell(key: jax.Array, state: Any) -> Any:
        population, state = strategy.ask(key, state)
        fitness = jnp.arange(config.population_size, dtype=jnp.float32)
        return strategy.tell(key, population, fitness, state)

    key = jax.random.key(0)
    state = jax.jit(strategy.init)(key, jax.device_get(weights))
    return shortest_seconds(lambda: ask_and_tell(key, state))


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
        "exchange_seconds": exchange_seconds(population),
        "strategy_seconds": strategy_seconds(config, result.params.weights),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

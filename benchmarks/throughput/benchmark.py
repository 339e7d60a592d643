"""DDQN updates per CPU-second: ours, a plain vmap, rejax; and how far from the machine.

Every contender trains the same agents (one hidden layer, one environment step and one
update per step) in the same one-step synthetic environments of CartPole's size, as one
ahead-of-time compiled program on one core. What they learn is compared as well, so that
none is fast by learning less.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import time
import timeit
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from benchmarks.shared import runtime
from benchmarks.throughput.baselines import (
    AGENT,
    GROUP,
    INDEPENDENT,
    LABELS,
    PLAIN,
    REJAX,
    SPACES,
    contenders,
    train_groups,
)
from jaxrl_runs.devices import shard
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_se import DDQN, Spaces, SyntheticConfig

MIN_SECONDS = 0.1  # of one timing; shorter programs are called several times


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the throughput benchmark.

    Attributes:
      populations: Numbers of agents trained at once.
      steps: Environment steps of each agent, which is also its buffer's size.
      repeats: Timings per contender and population, taken in turns.
      seed: Seed of the environments and agents.
      out: Folder of the run; without it, the next numbered one under runs/.
      quick: Sixteen agents only; ends within 20 seconds.
      cache: Keep compiled programs in the user's cache folder.
    """

    populations: tuple[int, ...] = (1, 16, 64, 256)
    steps: int = 500
    repeats: int = 3
    seed: int = 0
    out: Path | None = None
    quick: bool = False
    cache: bool = True

    def __post_init__(self):
        if not self.populations or min(self.populations) < 1:
            raise ValueError(
                f"--populations must be positive integers, got {self.populations}"
            )
        if self.repeats < 1:
            raise ValueError(f"--repeats must be at least 1, got {self.repeats}")
        if self.steps <= AGENT.learning_starts:
            raise ValueError(
                f"--steps must be more than the {AGENT.learning_starts} that precede "
                f"the first update, got {self.steps}"
            )


def flops_per_update(agent: DDQN, spaces: Spaces) -> int:
    """Floating-point operations of the matrix products of one step and update.

    With `F` the products of a layer's sizes summed over layers, and `F1` the first
    layer's: a forward pass takes `2 F` per row. An update has three of them (Q(s, a),
    and the next observation under both networks) and a backward pass of `2 (2 F - F1)`
    (by weights and by inputs, the first layer's inputs excepted) for every row of the
    minibatch. Acting is one row forward.
    """
    assert spaces.num_actions is not None
    sizes = (spaces.obs_size, *agent.hidden_sizes, spaces.num_actions)
    products = [a * b for a, b in itertools.pairwise(sizes)]
    forward = 2 * sum(products)
    backward = 2 * forward - 2 * products[0]
    return agent.batch_size * (3 * forward + backward) + forward


def matmul_ceiling(size: int = 1024, repeats: int = 5) -> float:
    """Float32 operations per CPU-second of a square matrix product on one core."""
    x = jax.random.normal(jax.random.key(0), (size, size))
    dot = jax.jit(jnp.dot).lower(x, x).compile()
    seconds = min(
        _seconds(lambda: dot(x, x), number=10, clock=time.process_time)
        for _ in range(repeats + 1)
    )
    return 2 * size**3 / seconds


def true_values(env: Any, params: Any, env_weights: Any) -> tuple[jax.Array, jax.Array]:
    """What agents are asked after training, 256 initial states per environment.

    Returns:
      Observations `[P, 256, obs_size]` and rewards of all actions
      `[P, 256, num_actions]`. Episodes are one step long, so the latter are the true
      values.
    """
    keys = jax.random.split(jax.random.key(1), 256)

    def one(weights):
        own = params.replace(weights=weights)

        def rewards(state):
            return [
                env.step_env(keys[0], state, jnp.int32(action), own)[2]
                for action in range(env.num_actions)
            ]

        obs, states = jax.vmap(env.reset_env, (0, None))(keys, own)
        return obs, jnp.stack(jax.vmap(rewards)(states), axis=-1)

    return jax.jit(jax.vmap(one))(env_weights)


def learned(
    values: Callable, trained: Any, obs: jax.Array, rewards: jax.Array
) -> dict[str, float]:
    """How well `[P]` agents know their environments.

    Returns:
      `best_action`, the fraction of states in which the greedy action is the one of
      highest reward, and `value_error`, the root mean squared error of Q relative to
      the standard deviation of the reward.
    """
    q = jax.jit(jax.vmap(values))(trained, obs)
    hits = jnp.argmax(q, axis=-1) == jnp.argmax(rewards, axis=-1)
    errors = jnp.mean((q - rewards) ** 2, axis=(1, 2)) / jnp.var(rewards, axis=(1, 2))
    return {
        "best_action": float(hits.mean()),
        "value_error": float(jnp.sqrt(errors.mean())),
    }


def _seconds(call: Callable, number: int, clock: Callable[[], float]) -> float:
    """Seconds per call; nothing is left running when the clock is read."""
    timer = timeit.Timer(lambda: jax.block_until_ready(call()), timer=clock)
    return timer.timeit(number) / number


def _rates(
    calls: dict[Any, Callable],
    updates: dict[Any, int],
    clock: Callable,
    repeats: int,
    bar: tqdm,
) -> dict[Any, dict[str, float]]:
    """Updates per second of each call: best and median of timings taken in turns."""
    numbers = {
        name: max(1, round(MIN_SECONDS / _seconds(call, 1, clock)))
        for name, call in calls.items()
    }
    rates: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            rates[name].append(updates[name] / _seconds(call, numbers[name], clock))
            bar.update()
    return {
        name: {"best": max(found), "median": float(np.median(found))}
        for name, found in rates.items()
    }


def measure(options: Options) -> dict[str, Any]:
    """Runs the whole comparison; the result is what summary.json holds."""
    env = SyntheticConfig(obs_range=None).build(SPACES)
    params = env.default_params
    ways = contenders(env, params, options.steps)
    updates_each = options.steps - AGENT.learning_starts
    meshes = {size: runtime.mesh_that_divides(size) for size in options.populations}

    def sharded(mesh):
        return shard(
            lambda weights, keys: train_groups(
                env, params, weights, keys[0], options.steps
            ),
            mesh,
        )

    arguments, programs = {}, {}
    draw_envs = jax.jit(jax.vmap(env.init_weights))
    key_agents, key_envs = jax.random.split(jax.random.key(options.seed))
    for size in options.populations:
        env_weights = draw_envs(jax.random.split(key_envs, size))
        keys = jax.random.split(key_agents, size)
        for name, way in ways.items():
            arguments[size, name] = (keys, env_weights)
            programs[size, name] = way.train
        if meshes[size].devices.size > 1:
            arguments[size, "wall"] = (env_weights, keys)
            programs[size, "wall"] = sharded(meshes[size])

    def compiled(cell):
        program = jax.jit(programs[cell]).lower(*arguments[cell]).compile()
        # Inputs are put where the program wants them, as a generation finds them.
        inputs = jax.device_put(arguments[cell], program.input_shardings[0])
        return cell, lambda: program(*inputs)

    with ThreadPoolExecutor(len(jax.local_devices())) as pool:
        found = pool.map(compiled, programs)
        bar = tqdm(found, "compile", total=len(programs), disable=None, leave=False)
        calls = dict(bar)
    updates = {cell: cell[0] * updates_each for cell in calls}

    rates, wall = {}, {}
    total = len(options.populations) * (len(ways) + 1) * options.repeats
    with tqdm(desc="measure", total=total, disable=None, leave=False) as bar:
        for size in options.populations:
            cpu = {(size, name): calls[size, name] for name in ways}
            rates |= _rates(cpu, updates, time.process_time, options.repeats, bar)
            cell = (size, "wall") if (size, "wall") in calls else (size, GROUP)
            timed = {cell: calls[cell]}
            start = time.process_time(), time.perf_counter()
            found = _rates(timed, updates, time.perf_counter, options.repeats, bar)
            cores = (time.process_time() - start[0]) / (time.perf_counter() - start[1])
            devices = int(meshes[size].devices.size)
            wall[size] = found[cell] | {"devices": devices, "cores": cores}

    largest = max(options.populations)
    truth = true_values(env, params, arguments[largest, GROUP][1])
    return {
        "populations": list(options.populations),
        "steps": options.steps,
        "repeats": options.repeats,
        "hidden_sizes": list(AGENT.hidden_sizes),
        "batch_size": AGENT.batch_size,
        "updates_per_cpu_second": {
            name: {str(size): rates[size, name] for size in options.populations}
            for name in ways
        },
        "updates_per_wall_second": {
            str(size): wall[size] for size in options.populations
        },
        "learned": {
            name: learned(way.values, calls[largest, name](), *truth)
            for name, way in ways.items()
        },
        "flops_per_update": flops_per_update(AGENT, SPACES),
        "ceiling_flops_per_cpu_second": matmul_ceiling(),
        "rejax": importlib.metadata.version("rejax") if REJAX in ways else None,
        "device": f"{jax.local_device_count()} x {jax.devices()[0].device_kind}",
    }


def print_table(summary: dict[str, Any]) -> None:
    """Prints rates, ratios, learning and the distance from the machine."""
    sizes = [str(size) for size in summary["populations"]]
    rates = summary["updates_per_cpu_second"]
    ceiling = summary["ceiling_flops_per_cpu_second"]

    def line(label: str, cells: list[str], end: str = "") -> None:
        print(f"{label:<40}" + "".join(f"{cell:>15}" for cell in cells) + end)

    line(
        "thousand updates per CPU-second",
        [f"P = {size}" for size in sizes],
        "   best action   value error",
    )
    for name in rates:
        check = summary["learned"][name]
        line(
            LABELS[name],
            [_thousands(rates[name][size]) for size in sizes],
            f"{check['best_action']:>14.1%}{check['value_error']:>14.2f}",
        )
    if REJAX not in rates:
        print(f"{LABELS[REJAX]:<40} not installed: pip install 'jaxrl-se[bench]'")
    for ours, theirs in itertools.product((GROUP, INDEPENDENT), (PLAIN, REJAX)):
        if ours in rates and theirs in rates:
            ratios = [
                rates[ours][size]["median"] / rates[theirs][size]["median"]
                for size in sizes
            ]
            line(f"  {ours} / {theirs}", [f"{ratio:.1f} x" for ratio in ratios])
    achieved = [rates[GROUP][s]["best"] * summary["flops_per_update"] for s in sizes]
    line("  group, Gflop per CPU-second", [f"{x / 1e9:.1f}" for x in achieved])
    line("  of the ceiling", [f"{x / ceiling:.1%}" for x in achieved])
    wall = summary["updates_per_wall_second"]
    line("thousand updates per second, group", [_thousands(wall[s]) for s in sizes])
    cores = [f"{wall[s]['devices']} ({wall[s]['cores']:.1f})" for s in sizes]
    line("  devices (cores got from the machine)", cores)
    print(
        f"best (median) of {summary['repeats']}; ratios are of medians; ceiling: "
        f"1024 x 1024 float32 product, {ceiling / 1e9:.0f} Gflop per CPU-second; "
        f"{summary['flops_per_update']} flop per update\n{summary['device']}"
        + (f", rejax {summary['rejax']}" if summary["rejax"] else "")
    )


def _thousands(rate: dict[str, float]) -> str:
    return f"{rate['best'] / 1e3:.1f} ({rate['median'] / 1e3:.1f})"


def main() -> None:
    """Parses the command line, measures, prints the table."""
    options = tyro.cli(Options, description=__doc__)
    if options.quick:
        options = dataclasses.replace(options, populations=(16,), repeats=3)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/throughput")
    identity = {name: str(value) for name, value in dataclasses.asdict(options).items()}
    with RunFolder(out, identity) as folder:
        summary = measure(options)
        folder.write_json("summary.json", summary)
    print_table(summary)
    print(f"results in {out}")

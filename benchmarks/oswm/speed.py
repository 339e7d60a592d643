"""Part (c) of the benchmark: the prior, steps per second, training with compilation."""

from __future__ import annotations

import time
from typing import Any

import jax

import envs
import jaxrl_se
import oswm
from benchmarks.oswm.models import make_model
from jaxrl_se import DDQN, PPO
from oswm.prior.default import EPISODE_STEPS, draw_batch, episodes_of

NUM_ROWS = 1000
TRAIN_STEPS = 204_800


def prior_per_cpu_second(num_datasets: int) -> float:
    """Transitions of synthetic tasks that are rolled out, compilation excluded."""
    draw = jax.jit(draw_batch, static_argnums=(1, 2, 3))
    jax.block_until_ready(draw(jax.random.key(0), num_datasets, NUM_ROWS, 0))
    cpu = time.process_time()
    jax.block_until_ready(draw(jax.random.key(1), num_datasets, NUM_ROWS, 0))
    cpu = time.process_time() - cpu
    return num_datasets * episodes_of(NUM_ROWS) * EPISODE_STEPS / cpu


def steps_per_second(
    model: str,
    num_envs: int,
    num_steps: int,
    task: str = "CartPole-v0",
    num_rows: int = NUM_ROWS,
) -> dict[str, float]:
    """Environment steps of random actions in a model of so many rows of a task.

    Autoreset included, compilation not; the CPU time is that of all threads.
    """
    env, params = _condition(model, task, num_rows)
    space = env.action_space(params)

    @jax.jit
    def run(key, params):
        def step(carry, key):
            obs, state = carry
            key_action, key_step = jax.random.split(key)
            action = space.sample(key_action)
            obs, state, reward, *_ = env.step(key_step, state, action, params)
            return (obs, state), reward

        def one(key):
            carry = env.reset(key, params)
            return jax.lax.scan(step, carry, jax.random.split(key, num_steps))[1].sum()

        return jax.vmap(one)(jax.random.split(key, num_envs))

    jax.block_until_ready(run(jax.random.key(0), params))
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(run(jax.random.key(1), params))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    total = num_envs * num_steps
    return {"per_second": total / wall, "per_cpu_second": total / cpu}


def training_seconds(model: str, agent: Any, num_steps: int) -> dict[str, float]:
    """A whole training run inside CartPole, all compilation included."""
    jax.clear_caches()
    wall, cpu = time.perf_counter(), time.process_time()
    env, params = _condition(model)
    trained = jaxrl_se.train(agent, env, params, jax.random.key(0), num_steps)
    jax.block_until_ready(trained.policy)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }


def seconds_of_fits(model: str) -> dict[str, float]:
    """CPU-seconds until 1,000 rows are an environment: the first, and others."""
    jax.clear_caches()
    found = []
    for seed in range(3):
        rows = _rows("CartPole-v0", NUM_ROWS, seed)
        cpu = time.process_time()
        space = envs.open_task("CartPole-v0").action_space()
        _, params = oswm.condition(rows, space, 200, model=make_model(model))
        jax.block_until_ready(params)
        found.append(time.process_time() - cpu)
    return {"first": found[0], "others": min(found[1:])}


def _rows(task: str, num_rows: int, seed: int = 0) -> envs.Transitions:
    return envs.collect(envs.make(task), num_rows, seed)


def _condition(
    model: str, task: str = "CartPole-v0", num_rows: int = NUM_ROWS
) -> tuple[oswm.WorldModelEnv, oswm.WorldModelParams]:
    space = envs.open_task(task).action_space()
    rows = _rows(task, num_rows)
    return oswm.condition(rows, space, 200, model=make_model(model))


def measure(models: tuple[str, ...], quick: bool) -> dict[str, Any]:
    """All timings; a quick one takes a tenth of the steps."""
    short = 10 if quick else 1
    agents = {
        "ppo": PPO(num_envs=8, rollout_steps=128, num_minibatches=8),
        "ddqn": DDQN(hidden_sizes=(64,), batch_size=32, max_grad_norm=None),
    }
    results: dict[str, Any] = {"prior": prior_per_cpu_second(64 // short)}
    for model in models:
        many = 64, 1_000 // short
        results[model] = {
            "fit": seconds_of_fits(model),
            "1": steps_per_second(model, 1, 10_000 // short),
            "64": steps_per_second(model, *many),
            "64, 5,000 rows": steps_per_second(model, *many, num_rows=5_000),
            "64, Pendulum-v1": steps_per_second(model, *many, "Pendulum-v1"),
        }
    for name, agent in agents.items():
        steps = TRAIN_STEPS // short
        results[f"{name}, {steps:,} steps"] = training_seconds(models[0], agent, steps)
    return results


def print_table(results: dict[str, Any]) -> None:
    """One line per model, then the training runs."""
    print(f"\nprior: {results['prior']:,.0f} transitions per CPU-second")
    models = {
        name: row for name, row in results.items() if name != "prior" and "fit" in row
    }
    columns = [name for name in next(iter(models.values())) if name != "fit"]
    print(f"CPU-seconds of a fit, steps per CPU-second; CartPole, {NUM_ROWS:,} rows")
    head = "".join(f"{name:>17}" for name in columns)
    print(f"{'model':<17}{'first fit':>10}{'others':>8}{head}")
    for name, row in models.items():
        fit = f"{row['fit']['first']:>10.1f}{row['fit']['others']:>8.1f}"
        values = [row[column]["per_cpu_second"] for column in columns]
        print(f"{name:<17}{fit}" + "".join(f"{value:>17,.0f}" for value in values))
    for name, row in results.items():
        if name != "prior" and "seconds" in row:
            print(
                f"{name} inside, compilation included: {row['seconds']:.0f} s, "
                f"{row['cpu_seconds']:.0f} CPU-s"
            )

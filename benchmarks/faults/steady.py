"""Does anything drift: compilations, memory, a search without a direction?"""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl_se
import oswm
from benchmarks.faults.runs import Row
from jaxrl_se.strategies import STRATEGIES, make_strategy

_COMPILED = "/jax/core/compile/backend_compile_duration"
_FLAT = 8 * 2**20  # Bytes in 200 calls: 40 kB a call.
_compilations: list[str] = []
_WARM_UP = 10


def calls() -> dict[str, Callable[[int], Any]]:
    """What is called again and again, with other numbers each time."""
    env, params = envs.make("CartPole-v1")
    agent = jaxrl_se.DDQN(hidden_sizes=(8,), batch_size=8, buffer_size=64)
    policy = jaxrl_se.train(agent, env, params, 0, 64).policy
    log = envs.collect(env, params, 200, 0)

    def train(i: int) -> Any:
        changed = dataclasses.replace(agent, learning_rate=1e-3 * (1 + i / 100))
        longer = params.replace(max_steps_in_episode=100 + i)
        return jaxrl_se.train(changed, env, longer, i, 64).policy

    def evaluate(i: int) -> Any:
        other = jax.tree.map(lambda x: x * (1 + i / 100), policy)
        harder = params.replace(gravity=9.8 + i / 100)
        return jaxrl_se.evaluate(other, env, harder, i, 4).returns

    def condition(i: int) -> Any:
        rows = log.replace(reward=np.asarray(log.reward) * (1 + i / 100))  # type: ignore
        return oswm.condition(rows, model=oswm.Ridge(), max_steps=100 + i)[1]

    return {"train": train, "evaluate": evaluate, "condition": condition}


def repeated(number: int) -> Iterator[Row]:
    """No compilation and flat memory in `number` calls."""
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration_secs, **kwargs: (
            _compilations.append(event) if event == _COMPILED else None
        )
    )
    for name, call in calls().items():
        for i in range(_WARM_UP):
            jax.block_until_ready(jax.tree.leaves(call(i)))
        gc.collect()
        before, resident = len(_compilations), _resident()
        for i in range(_WARM_UP, _WARM_UP + number):
            jax.block_until_ready(jax.tree.leaves(call(i)))
        gc.collect()
        compiled, grown = len(_compilations) - before, _resident() - resident
        yield Row(
            f"`{name}` with other params",
            number,
            f"{compiled} compilations, {grown / 2**20:+.1f} MiB",
            compiled == 0 and grown < _FLAT,
        )


def _resident() -> int:
    """Bytes of memory that are the process's own now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def drifts(generations: int = 60) -> Iterator[Row]:
    """Where the mean of a search goes that is told of equal fitnesses only."""
    start = {"w": jnp.arange(5.0), "b": jnp.ones(3)}
    for name in (*STRATEGIES, jaxrl_se.FerreiraES()):
        strategy: Any = make_strategy(name, 12, start, std=0.3, learning_rate=0.3)

        @jax.jit
        def one(state: Any, key: jax.Array, strategy: Any = strategy) -> Any:
            key_ask, key_tell = jax.random.split(key)
            population, state = strategy.ask(key_ask, state)
            fitness = jnp.zeros(len(jax.tree.leaves(population)[0]))
            return strategy.tell(key_tell, population, fitness, state)

        state = strategy.init(jax.random.key(0), start)
        for key in jax.random.split(jax.random.key(1), generations):
            state = one(state, key)
        moved = max(
            float(jnp.abs(a - b).max())
            for a, b in zip(
                jax.tree.leaves(strategy.mean(state)),
                jax.tree.leaves(start),
                strict=True,
            )
        )
        yield Row(
            f"equal fitnesses, {strategy.name}",
            generations,
            f"the mean moved by {moved:.2g}",
            moved < 1e-3,
        )


def modes(folder: Path) -> Iterator[Row]:
    """An evolution under other settings of JAX, in processes of their own.

    Bits are promised for one number of devices (docs/guides/devices.md), so each
    number is run twice.
    """
    for name, variable in (
        ("`jax_enable_x64`", "JAX_ENABLE_X64"),
        ("`jax_debug_nans`", "JAX_DEBUG_NANS"),
    ):
        digest, last = _evolved(folder / variable, {variable: "1"})
        found = last if digest is None else "finished"
        yield Row(f"an evolution, {name}", 1, found, digest is not None)
    for number in (1, 2, 3):
        variables = {"JAX_NUM_CPU_DEVICES": str(number)}
        ended = [_evolved(folder / f"{number} {turn}", variables) for turn in "ab"]
        digests = {digest for digest, _ in ended}
        is_same = len(digests) == 1 and None not in digests
        found = "the same bits" if is_same else f"not the same bits {ended}"
        yield Row(f"an evolution twice, {number} devices", 2, found, is_same)


def _evolved(out: Path, variables: dict[str, str]) -> tuple[str | None, str]:
    """The digest of a small evolution, None if it failed, and its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults.programs", "evolution", str(out)],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        check=False,
    )
    words = done.stdout.split()
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return (words[-1] if "digest" in words else None), last

"""Part of the benchmark: ways to a kernel's length scales, on held-out tasks.

Each task asks for a reward, one observation or all of them (`oswm.kernel_training`);
rows that the likelihood has not looked at are predicted by the exact solution.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import oswm
from oswm.kernel_guess import KernelGuess
from oswm.kernel_training import Lesson, held_out_errors, make_lesson
from oswm.relevance import Flattened, likelihood
from oswm.validation import held_out

NUM_ROWS = 192  # That a likelihood looks at, as in `RelevanceSearch`.
_NUM_CONTEXT, _NUM_QUERY, _SEED = 256, 64, 2  # As in `held_out.py`.
_NUM_LESSONS = 2  # Of each task.
_LENGTH_SCALES = 0.5, 1.0, 2.0, 4.0  # In units of the root of the number of inputs.
_NOISES = 1e-4, 1e-3, 1e-2, 0.3
_SMOOTH = 1e-2  # Error of one length scale below which a target counts as smooth.
# Steps of the climb, and whether it starts from a guess.
WAYS = {
    "climb of 5 steps": (5, False),
    "climb of 30 steps": (30, False),
    "guess": (0, True),
    "guess, climb of 5": (5, True),
    "guess, climb of 10": (10, True),
}
_ISOTROPIC = "one length scale"


def measure(num_tasks: int, guess: KernelGuess | None = None) -> dict[str, list]:
    """Squared errors of standardised targets, by way, None where nothing is asked.

    Args:
        num_tasks: How many tasks, of two lessons each.
        guess: The network; by default the one that ships.
    """
    guess = oswm.load_guess() if guess is None else guess
    tasks = held_out(num_tasks, _NUM_CONTEXT, _NUM_QUERY, seed=_SEED)
    make = jax.jit(jax.vmap(lambda key, task: make_lesson(key, task, NUM_ROWS)))
    found: dict[str, list] = {}
    for lesson in range(_NUM_LESSONS):
        keys = jax.random.split(jax.random.key(lesson), num_tasks)
        errors = _errors(guess.weights, guess.config, make(keys, tasks))
        for name, row in jax.device_get(errors).items():
            found.setdefault(name, []).extend(
                float(x) if np.isfinite(x) and x > 0 else None for x in row
            )
    return found


@functools.partial(jax.jit, static_argnums=1)
def _errors(weights: Any, config: Any, lessons: Lesson) -> dict[str, jax.Array]:
    guess = KernelGuess(weights, config)

    def one(lesson):
        flat = Flattened.of(lesson.basis, lesson.targets, lesson.mask)
        asked = jnp.sum(jnp.square(flat.targets), axis=0) > 0
        places = {_ISOTROPIC: _one_scale(lesson, flat)}
        start = (lesson.start > 0) * jnp.exp(places[_ISOTROPIC][:-1])
        for name, (num_steps, is_guessed) in WAYS.items():
            search = oswm.RelevanceSearch(
                num_steps, NUM_ROWS, guess=guess if is_guessed else None
            )
            places[name] = search.climb(lesson.inputs, flat, start)
        number = jnp.sum(asked) * (jnp.sum(lesson.query_mask) > 0)
        return {
            name: jnp.sum(asked * held_out_errors(lesson, flat, place)) / number
            for name, place in places.items()
        }

    return jax.lax.map(one, lessons)


def _one_scale(lesson: Lesson, flat: Flattened) -> jax.Array:
    """Length scale and noise of the largest likelihood, as a place [D + 1]."""
    used = (lesson.start > 0).astype(jnp.float32)
    unit = -0.5 * jnp.log(jnp.maximum(jnp.sum(used), 1.0))
    places = jnp.stack(
        [
            jnp.append(used * (unit - np.log(scale)), np.log(noise))
            for scale in _LENGTH_SCALES
            for noise in _NOISES
        ]
    )
    values = jax.lax.map(
        lambda place: likelihood(lesson.inputs, flat, place, used, None)[0], places
    )
    return places[jnp.nanargmax(values)]


def summarize(errors: dict[str, list]) -> dict[str, dict]:
    """By way: geometric mean error, and over that of one length scale.

    Returns:
        `error`, `ratio`, `smooth_ratio` over smooth targets, and the shares of lessons
        with less than half, `halved`, and more than 1.3 times the error, `worse`.
    """
    rows = {name: np.asarray(row, float) for name, row in errors.items()}
    known = np.all([np.isfinite(row) for row in rows.values()], axis=0)
    rows = {name: np.maximum(row[known], 1e-10) for name, row in rows.items()}
    base = rows[_ISOTROPIC]
    table = {}
    for name, row in rows.items():
        ratio = row / base
        smooth = ratio[base < _SMOOTH]
        table[name] = {
            "error": float(np.exp(np.log(row).mean())),
            "ratio": float(np.exp(np.log(ratio).mean())),
            "smooth_ratio": float(np.exp(np.log(smooth).mean())) if len(smooth) else 1,
            "halved": float((ratio < 0.5).mean()),
            "worse": float((ratio > 1.3).mean()),
        }
    return table


def print_table(errors: dict[str, list]) -> dict[str, dict]:
    """One line per way; returns the summary."""
    table = summarize(errors)
    print("\nlength scales per input: squared errors of held-out rows")
    print(f"{'way':<20}{'error':>10}{'ratio':>8}{'smooth':>8}{'< .5':>7}{'> 1.3':>7}")
    for name, row in table.items():
        print(
            f"{name:<20}{row['error']:>10.2e}{row['ratio']:>8.2f}"
            f"{row['smooth_ratio']:>8.2f}{row['halved']:>7.0%}{row['worse']:>7.0%}"
        )
    print("ratios are to one length scale; smooth: where that has less than 1e-2")
    return table

"""A training run of `oswm.kernel_guess`: its folder, its checkpoints, what it reports.

DIR/run.json       the settings, and the machine it was started on
DIR/plan.json      the number of steps, fixed when the run was started
DIR/metrics.csv    loss, and on held-out tasks the loss of the guess and of a climb
DIR/checkpoints/   the newest three; a resumed run goes on from the last, bit by bit
DIR/kernels.npz    the trained network, for `oswm.load_guess(DIR)`
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_runs.run_folder import RunFolder
from jaxrl_runs.values import Number
from oswm.kernel_guess import KernelGuess, save_guess
from oswm.kernel_training import (
    GuessState,
    GuessTraining,
    Lesson,
    held_out_errors,
    make_advance,
    make_lesson,
    start,
)
from oswm.pretraining import Clock
from oswm.prior.dataset import Dataset
from oswm.prior.default import draw_batch
from oswm.relevance import Flattened, RelevanceSearch
from oswm.validation import held_out

_CHECKPOINTS = 20  # in a run
_LEAST_ERROR = 1e-10  # Below it none is better.


@dataclasses.dataclass
class GuessValidation:
    """Held-out rows of tasks that no training has seen, by several ways to a kernel.

    Attributes:
        lessons: With a leading axis.
        climbed: Errors [K] after a climb of 30 steps from one length scale.
    """

    lessons: Lesson
    climbed: np.ndarray

    @classmethod
    def of(cls, config: GuessTraining, number: int, draw: Any) -> GuessValidation:
        """Draws the tasks and climbs."""
        tasks = held_out(number, config.num_context, config.num_query, draw)
        keys = jax.random.split(jax.random.key(0), number)
        make = functools.partial(make_lesson, num_rows=config.num_rows)
        lessons = jax.jit(jax.vmap(make))(keys, tasks)
        return cls(lessons, np.asarray(_errors(None, config, 30, lessons)))

    def measure(self, weights: Any, config: GuessTraining) -> dict[str, float]:
        """Geometric means of squared errors of held-out rows."""
        guessed = np.asarray(_errors(weights, config, 0, self.lessons))
        known = np.isfinite(guessed) & np.isfinite(self.climbed)
        ours, theirs = (
            np.maximum(x[known], _LEAST_ERROR) for x in (guessed, self.climbed)
        )
        return {
            "error_guess": float(np.exp(np.log(ours).mean())),
            "error_climb": float(np.exp(np.log(theirs).mean())),
            "beats_climb": float((ours < theirs).mean()),
        }


@functools.partial(jax.jit, static_argnums=(1, 2))
def _errors(weights, config: GuessTraining, num_steps: int, lessons) -> jax.Array:
    """Mean squared error [K] of each lesson's targets, NaN where none can be measured.

    Args:
        weights: Of the network; None for a climb that starts without a guess.
        config: Settings.
        num_steps: Of the climb.
        lessons: With a leading axis [K].
    """
    guess = None if weights is None else KernelGuess(weights, config.network)
    search = RelevanceSearch(num_steps, config.num_rows, guess=guess)

    def one(lesson):
        flat = Flattened.of(lesson.basis, lesson.targets, lesson.mask)
        place = search.climb(lesson.inputs, flat, lesson.start)
        error = held_out_errors(lesson, flat, place)
        asked = jnp.sum(jnp.square(flat.targets), axis=0) > 0
        number = jnp.sum(asked) * (jnp.sum(lesson.query_mask) > 0)
        return jnp.sum(asked * error) / number

    return jax.lax.map(one, lessons)


def pretrain_guess(
    out: str | Path,
    config: GuessTraining,
    *,
    steps: int | None = None,
    minutes: float = 20.0,
    num_validation: int = 96,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    draw: Callable[..., Dataset] = draw_batch,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Trains, or resumes a training, and writes the network.

    Args:
        out: The folder of the run.
        config: Settings; they identify the run.
        steps: Number of steps, rounded up to calls of `config.steps_per_call`.
        minutes: Without steps: how long to train, from the time that some take now.
        num_validation: Held-out tasks of a validation.
        resume: Continue the run that the folder holds.
        about: What else the network's card says.
        draw: The prior.
        say: Takes a line about what is going on.

    Returns:
        The last validation: `step`, `loss`, and what `GuessValidation.measure` says.

    Raises:
        RunFolderError: The folder cannot be used; see `jaxrl_runs.RunFolder`.
        ValueError: A setting is out of range.
        FloatingPointError: No loss of a whole call was finite.
    """
    Number(above=0).check("minutes", minutes)
    with RunFolder(out, dataclasses.asdict(config), resume=resume) as folder:
        plan = folder.read_json("plan.json")
        if plan is None:
            number = steps or _steps_within(config, minutes, draw)
            size = config.steps_per_call
            plan = {"num_steps": -(-number // size) * size}
            folder.write_json("plan.json", plan)
        say("drawing held-out tasks, climbing without a guess to compare with")
        validation = GuessValidation.of(config, num_validation, draw)
        started = time.process_time()
        state, report = _run(folder, config, plan["num_steps"], validation, draw, say)
        card = {
            **(about or {}),
            "prior": "default",
            "num_steps": plan["num_steps"],
            "num_lessons": plan["num_steps"] * config.batch_size,
            "num_weights": sum(x.size for x in jax.tree.leaves(state.weights)),
            "seed": config.seed,
            "backend": jax.default_backend(),
            "cpu_seconds_of_last_start": round(time.process_time() - started),
            "validation": report,
        }
        guess = KernelGuess(jax.device_get(state.weights), config.network)
        save_guess(folder.path / "kernels.npz", guess, card)
        return report


def _run(
    folder: RunFolder,
    config: GuessTraining,
    num_steps: int,
    validation: GuessValidation,
    draw: Any,
    say: Callable[[str], None],
) -> tuple[GuessState, dict[str, float]]:
    """Steps from the newest checkpoint to the last step."""
    state, rows = start(config, num_steps), []
    restored = folder.restore(state)
    if restored is not None:
        state, rows = restored[0], restored[1]["rows"]
    folder.start_metrics(rows)
    advance = make_advance(config, num_steps, draw)
    calls = num_steps // config.steps_per_call
    every = max(1, calls // _CHECKPOINTS)
    clock = Clock(num_steps, say)
    for call in range(int(state.step) // config.steps_per_call + 1, calls + 1):
        state, losses = advance(state)
        losses = np.asarray(losses)
        if not np.isfinite(losses).any():
            raise FloatingPointError(
                f"step {int(state.step)}: no loss was finite; lower learning_rate, or "
                "report the seed"
            )
        loss, is_told = float(np.nanmean(losses)), call % every == 0 or call == calls
        clock.tell(int(state.step), loss, force=is_told)
        if not is_told:
            continue
        step = int(state.step)
        row = {"step": step, "loss": loss}
        row |= validation.measure(state.weights, config)
        say(
            "squared errors of held-out rows: guess {error_guess:.3e}, climb "
            "{error_climb:.3e}; the guess is better on {beats_climb:.0%}".format(**row)
        )
        rows.append(row)
        folder.append_metrics(row)
        folder.save(step, state, {"rows": rows})
    return state, rows[-1]


def _steps_within(config: GuessTraining, minutes: float, draw: Any) -> int:
    """How many steps fit, from the time that some take now."""
    advance = make_advance(config, 1000, draw)
    state, _ = jax.block_until_ready(advance(start(config, 1000)))
    begin = time.monotonic()
    jax.block_until_ready(advance(state))
    seconds = (time.monotonic() - begin) / config.steps_per_call
    return max(config.steps_per_call, int(60 * minutes / seconds))

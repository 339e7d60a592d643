"""A training run of the transformer: its folder, its checkpoints, what it reports.

DIR/run.json       the settings, and the machine it was started on
DIR/plan.json      the number of steps, fixed when the run was started
DIR/metrics.csv    loss, and errors on held-out tasks
DIR/checkpoints/   the newest three; a resumed run goes on from the last, bit by bit
DIR/weights.npz    the trained model, for `oswm.load_model(DIR)`
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl_runs.run_folder import RunFolder
from jaxrl_runs.values import Number
from jaxrl_runs.weight_files import read_weights, write_weights
from oswm.closed_form import Persistence, Ridge
from oswm.kernel_ridge import KernelRidge
from oswm.model import TransformerModel
from oswm.nearest_neighbours import NearestNeighbours
from oswm.network import init_weights
from oswm.prior.dataset import Dataset
from oswm.prior.default import draw_batch
from oswm.training import (
    STEPS_PER_CALL,
    TransformerState,
    TransformerTraining,
    make_advance,
    start,
)
from oswm.validation import compare, errors_of, held_out
from oswm.weights import save_model
from oswm.world_model import WorldModel

_CHECKPOINTS = 20  # in a run
_VALIDATIONS = 5
_MOST_SKIPPED = 20
_SECONDS_BETWEEN_LINES = 10.0
# A model of the first name is validated against those of the others.
_OURS = "oswm"
Advance = Callable[[TransformerState], tuple[TransformerState, jax.Array]]


@dataclasses.dataclass
class Validation:
    """Errors on tasks that no training has seen, beside models that need none.

    Attributes:
        base: Closed-form models of the transformer.
        data: The tasks.
        baselines: Errors [K] of other models on them, by name.
    """

    base: Any
    data: Dataset
    baselines: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls, config: TransformerTraining, number: int, folder: RunFolder, draw: Any
    ) -> Validation:
        """Draws the tasks; other models' errors are computed once for a folder."""
        data = held_out(number, config.num_context, config.num_query, draw)
        path = folder.path / "baselines.npz"
        if path.exists():
            _, errors = read_weights(path, what="errors of baselines")
            if all(len(x) == number for x in errors.values()):
                return cls(config.base, data, errors)
        models = baselines_of(config)
        errors = {name: errors_of(model, data) for name, model in models.items()}
        write_weights(path, errors)
        return cls(config.base, data, errors)

    def measure(self, weights: Any, config: TransformerTraining) -> dict[str, float]:
        """See `oswm.validation.compare`."""
        model = TransformerModel(weights, config.network, base=self.base)
        return compare({_OURS: errors_of(model, self.data), **self.baselines})


def baselines_of(config: TransformerTraining) -> dict[str, WorldModel[Any]]:
    """What a trained transformer is compared with; "blend" is it without training."""
    weights = jax.device_get(init_weights(jax.random.key(0), config.network))
    return {
        "persistence": Persistence(),
        "knn": NearestNeighbours(),
        "ridge": Ridge(),
        "kernel_ridge": KernelRidge(num_landmarks=64),
        "base": config.base,
        "blend": TransformerModel(weights, config.network, base=config.base),
    }


def pretrain(
    out: str | Path,
    config: TransformerTraining,
    *,
    steps: int | None = None,
    minutes: float = 20.0,
    num_validation: int = 48,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    draw: Callable[..., Dataset] = draw_batch,
    advance: Callable[[TransformerTraining, int], Advance] = make_advance,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Trains, or resumes a training, and writes the model.

    Args:
        out: The folder of the run.
        config: Settings; they identify the run.
        steps: Number of steps, rounded up to calls of STEPS_PER_CALL.
        minutes: Without steps: how long to train, from the time that some take now.
        num_validation: Held-out tasks of a validation.
        resume: Continue the run that the folder holds.
        about: What else the model's card says.
        draw: The prior that validations are drawn from.
        advance: Makes the compiled steps of a training of so many steps.
        say: Takes a line about what is going on.

    Returns:
        The last validation: `step`, `loss`, and what `oswm.validation.compare` says.

    Raises:
        RunFolderError: The folder cannot be used; see `jaxrl_runs.RunFolder`.
        ValueError: A setting is out of range.
        FloatingPointError: Losses were not finite for 20 steps in a row.
    """
    Number(above=0).check("minutes", minutes)
    with RunFolder(out, dataclasses.asdict(config), resume=resume) as folder:
        plan = folder.read_json("plan.json")
        if plan is None:
            number = steps or steps_within(config, minutes, advance)
            plan = {"num_steps": -(-number // STEPS_PER_CALL) * STEPS_PER_CALL}
            folder.write_json("plan.json", plan)
        num_steps = plan["num_steps"]
        say("drawing held-out tasks, fitting the models to compare with")
        validation = Validation.of(config, num_validation, folder, draw)
        started = time.monotonic(), time.process_time()
        state, report = _run(folder, config, num_steps, validation, advance, say)
        card = {
            **(about or {}),
            "prior": "default",
            "num_steps": num_steps,
            "num_datasets": num_steps * config.num_datasets // config.num_passes,
            "num_passes": config.num_passes,
            "num_weights": sum(x.size for x in jax.tree.leaves(state.weights)),
            "seed": config.seed,
            "backend": jax.default_backend(),
            "num_devices": jax.device_count(),
            "seconds_of_last_start": round(time.monotonic() - started[0]),
            "cpu_seconds_of_last_start": round(time.process_time() - started[1]),
            "validation": report,
        }
        save_model(folder.path, jax.device_get(state.weights), config.network, card)
        return report


def _run(
    folder: RunFolder,
    config: TransformerTraining,
    num_steps: int,
    validation: Validation,
    make: Callable[[TransformerTraining, int], Advance],
    say: Callable[[str], None],
) -> tuple[TransformerState, dict[str, float]]:
    """Steps from the newest checkpoint to the last step."""
    state, rows = start(config, num_steps), []
    restored = folder.restore(state)
    if restored is not None:
        state, rows = restored[0], restored[1]["rows"]
    folder.start_metrics(rows)
    advance = make(config, num_steps)
    calls = num_steps // STEPS_PER_CALL
    every = max(1, calls // _CHECKPOINTS)
    between = every * _CHECKPOINTS // _VALIDATIONS
    clock = Clock(num_steps, say)
    for call in range(int(state.step) // STEPS_PER_CALL + 1, calls + 1):
        state, losses = advance(state)
        _check_finite(state)
        step, loss = int(state.step), float(np.nanmean(losses))
        is_last = call == calls
        clock.tell(step, loss, force=call % every == 0 or is_last)
        if call % every and not is_last:
            continue
        row: dict[str, Any] = dict.fromkeys(_columns(validation))
        row |= {"step": step, "loss": loss}
        if is_last or call % between == 0:
            row |= validation.measure(jax.device_get(state.weights), config)
            say(_line(row))
        rows.append(row)
        folder.append_metrics(row)
        folder.save(step, state, {"rows": rows})
    return state, rows[-1]


class Clock:
    """Says where a run is, every ten seconds and when asked to.

    Args:
        num_steps: Of the run.
        say: Takes a line.
    """

    def __init__(self, num_steps: int, say: Callable[[str], None]):
        self._num_steps, self._say = num_steps, say
        self._first: int | None = None
        self._started = self._told = time.monotonic()

    def tell(self, step: int, loss: float, *, force: bool) -> None:
        """A line with the loss and the time that is left."""
        now = time.monotonic()
        if self._first is None:  # What came before compiled, too.
            self._say(
                f"step {step:,} of {self._num_steps:,}: loss {loss:.3f}; compiled and "
                f"done in {now - self._started:.0f} s"
            )
            self._first, self._started, self._told = step, now, now
            return
        if not force and now - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = now
        each = (now - self._started) / max(step - self._first, 1)
        left = each * (self._num_steps - step)
        self._say(
            f"step {step:,} of {self._num_steps:,}: loss {loss:.3f}, "
            f"{each:.2f} s a step, {int(left // 60)}:{int(left % 60):02d} min left"
        )


def _check_finite(state: TransformerState) -> None:
    if int(state.num_skipped) > _MOST_SKIPPED:
        raise FloatingPointError(
            f"step {int(state.step)}: losses or gradients were not finite in "
            f"{int(state.num_skipped)} steps in a row; lower learning_rate, or report "
            "the seed"
        )


def _columns(validation: Validation) -> list[str]:
    """Of metrics.csv; all but the first two are empty between validations."""
    errors = {name: np.ones(1) for name in (_OURS, *validation.baselines)}
    return ["step", "loss", *compare(errors)]


def _line(row: Mapping[str, Any]) -> str:
    parts = [
        f"{name.removeprefix('error_')} {value:.2e}"
        for name, value in row.items()
        if name.startswith("error_")
    ]
    beats = f"; it beats ridge on {row['beats_ridge']:.0%} of them"
    return "errors on held-out tasks: " + ", ".join(parts) + beats


def steps_within(
    config: TransformerTraining,
    minutes: float,
    make: Callable[[TransformerTraining, int], Advance] = make_advance,
) -> int:
    """How many steps fit, from the time that some take now."""
    advance = make(config, 1000)
    state, _ = jax.block_until_ready(advance(start(config, 1000)))
    begin = time.monotonic()
    jax.block_until_ready(advance(state))
    seconds = (time.monotonic() - begin) / STEPS_PER_CALL
    return max(STEPS_PER_CALL, int(60 * minutes / seconds))

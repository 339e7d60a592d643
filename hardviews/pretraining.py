"""A pretraining run: its folder, its checkpoints, what it leaves.

DIR/run.json       the settings and digests of the data
DIR/metrics.csv    a row per epoch: loss, overlap of the crops, seconds, accuracies
DIR/checkpoints/   the newest three; a resumed run goes on from the last, bit by bit
DIR/encoder.npz    the trained network, for `hardviews.load_encoder(DIR)`
DIR/summary.json   the last row
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hardviews.encoder import Encoder, save_encoder
from hardviews.evaluation import evaluate_encoder
from hardviews.pictures import Pictures, check_pictures, need_labels
from hardviews.training import (
    CONFIG,
    PretrainConfig,
    PretrainState,
    make_views,
    run_key,
    start,
    train_epoch,
)
from jaxrl_runs.describe import describe
from jaxrl_runs.run_folder import RunFolder
from jaxrl_runs.values import FLAG, PATH, Function, Integer, Like, shown

Row = dict[str, Any]
_EVERY = Integer(optional=True)
_STATE = Like("a PretrainState", kinds=(PretrainState,))
_TEST = (
    "a pair of Pictures (training, test), the first to learn a classifier from, or None"
)


def encoder_of(
    config: PretrainConfig, state: PretrainState, pictures: Pictures
) -> Encoder:
    """The encoder of a training as it stands.

    Args:
        config: Its settings.
        state: As `train` returns it.
        pictures: What it was trained on, for their mean and deviation.

    Raises:
        TypeError: An argument is of another kind.
    """
    CONFIG.check("config", config)
    _STATE.check("state", state)
    check_pictures("pictures", pictures)
    return Encoder(
        params=state.weights.params["encoder"],
        stats=state.weights.stats["encoder"],
        mean=pictures.mean,
        std=pictures.std,
        config=config.encoder,
    )


def train(
    config: PretrainConfig,
    pictures: Pictures,
    state: PretrainState | None = None,
    on_epoch: Callable[[PretrainState, Row], Any] | None = None,
) -> PretrainState:
    """Epochs from a state to the last one.

    Args:
        config: Settings.
        pictures: The data; labels are not looked at.
        state: Where to go on; by default the beginning.
        on_epoch: Called after each epoch with the state and a row: "epoch", means of
            the numbers of `train_step`, and "cpu_seconds" and "seconds" of the epoch,
            in the first of which the program is compiled.

    Returns:
        The state after the last epoch.

    Raises:
        ValueError: There are fewer pictures than a batch holds.
        FloatingPointError: The loss is not finite.
    """
    CONFIG.check("config", config)
    check_pictures("pictures", pictures)
    if state is not None:
        _STATE.check("state", state)
    Function("(state, row) -> None", optional=True).check("on_epoch", on_epoch)
    steps = config.steps_per_epoch(len(pictures))
    num_steps = steps * config.num_epochs
    current = start(config, num_steps) if state is None else state
    key = run_key(config)
    for epoch in range(int(current.step) // steps + 1, config.num_epochs + 1):
        began = time.process_time(), time.monotonic()
        current, metrics = train_epoch(
            config, num_steps, current, pictures, config.augmentation, key
        )
        row: Row = {"epoch": epoch}
        row |= {name: float(jnp.mean(values)) for name, values in metrics.items()}
        row["cpu_seconds"] = time.process_time() - began[0]
        row["seconds"] = time.monotonic() - began[1]
        if not np.isfinite(row["loss"]):
            raise FloatingPointError(
                f"epoch {epoch}: the loss is not finite; lower learning_rate"
            )
        if on_epoch is not None:
            on_epoch(current, row)
    return current


def pretrain(
    out: str | Path,
    config: PretrainConfig,
    pictures: Pictures,
    *,
    test: tuple[Pictures, Pictures] | None = None,
    evaluate_every: int | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Encoder:
    """Pretrains in a folder, and leaves an encoder there.

    Args:
        out: The folder of the run.
        config: Settings.
        pictures: The data; labels are not looked at.
        test: Pictures with labels: those that classifiers learn from, and those that
            they are tested on, after the last epoch. None: no evaluation.
        evaluate_every: Epochs between further evaluations; needs `test`.
        resume: Continue the run that is in the folder.
        say: Takes lines about the progress.

    Returns:
        The trained encoder.

    Raises:
        TypeError: `pictures` or `test` is no Pictures, or no pair of them.
        ValueError: An argument is out of range, `test` has no labels, or the method or
            augmentation returns what does not fit.
        RunFolderError: The folder cannot be used; see `jaxrl_runs.RunFolder`.
        FloatingPointError: The loss is not finite.
    """
    CONFIG.check("config", config)
    check_pictures("pictures", pictures)
    PATH.check("out", out)
    _check_test(test)
    _EVERY.check("evaluate_every", evaluate_every)
    if evaluate_every is not None and test is None:
        raise ValueError(f"evaluate_every needs test, got {evaluate_every} without it")
    FLAG.check("resume", resume)
    Function("(line) -> None").check("say", say)
    steps = config.steps_per_epoch(len(pictures))
    identity = describe({"config": config, "images": pictures.images, "test": test})
    state, rows = start(config, steps * config.num_epochs), []
    _check_views(config, pictures)  # Before there is a folder.
    with RunFolder(out, identity, resume=resume) as folder:
        restored = folder.restore(state)
        if restored is not None:
            state, rows = restored[0], restored[1]["rows"]
        folder.start_metrics(rows)
        if len(rows) < config.num_epochs:
            say(f"compiling, then {config.num_epochs} epochs of {steps} steps")

        def on_epoch(state: PretrainState, row: Row) -> None:
            is_last = row["epoch"] == config.num_epochs
            if test is not None:
                due = is_last or row["epoch"] % (evaluate_every or config.num_epochs)
                found: dict[str, Any] = {"linear": None, "knn": None}
                if is_last or due == 0:
                    encoder = encoder_of(config, state, pictures)
                    found = evaluate_encoder(encoder, *test)
                row |= found
            rows.append(row)
            folder.append_metrics(row)
            folder.save(int(state.step), state, {"rows": rows})
            say(_line(row, config.num_epochs))

        state = train(config, pictures, state, on_epoch)
        encoder = jax.device_get(encoder_of(config, state, pictures))
        save_encoder(folder.path / "encoder.npz", encoder, {**rows[-1], **identity})
        folder.write_json("summary.json", rows[-1])
    return encoder


def _check_views(config: PretrainConfig, pictures: Pictures) -> None:
    """Follows the augmentation without computing anything."""
    rows = np.arange(2)
    jax.eval_shape(
        lambda: make_views(config, config.augmentation, pictures, rows, config.seed)
    )


def _check_test(test: Any) -> None:
    if test is None:
        return
    if not isinstance(test, tuple) or len(test) != 2:
        raise TypeError(f"test must be {_TEST}, got {shown(test)}")
    for part, name in zip(test, ("test[0]", "test[1]"), strict=True):
        check_pictures(name, part)
        need_labels(part, name)


def _line(row: Row, num_epochs: int) -> str:
    parts = [f"epoch {row['epoch']} of {num_epochs}: loss {row['loss']:.3f}"]
    parts.append(f"overlap {row['overlap']:.2f}")
    if row.get("linear") is not None:
        parts.append(f"linear {row['linear']:.1%}, neighbours {row['knn']:.1%}")
    return ", ".join([*parts, f"{row['seconds']:.1f} s"])

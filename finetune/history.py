"""History files of a tuner: everything that was asked and told, in order, as json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from finetune.task_runs import TaskRuns

_KEYS = ("space", "num_epochs", "candidates", "runs")


def describe_runs(runs: TaskRuns) -> dict[str, Any]:
    """What a history file says of a task, without the order of events."""
    is_known = (runs.lengths > 0) | runs.is_failed
    started = [int(i) for i in np.flatnonzero(is_known)]
    return {
        "space": json.loads(runs.space.to_json()),
        "num_epochs": runs.num_epochs,
        "direction": runs.direction,
        "candidates": runs.configs,
        "runs": [
            {
                "id": i,
                "accuracies": runs.values(i),
                "seconds": runs.epoch_seconds.get(i, []),
                "failed": bool(runs.is_failed[i]),
                "finished": bool(runs.is_finished[i]),
            }
            for i in started
        ],
    }


def write_history(path: Path, content: dict[str, Any]) -> None:
    """Write a history: it is the old file or the whole new one, never a part."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w") as file:
            file.write(json.dumps(content) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_history(path: Path) -> dict[str, Any]:
    """Read a json object.

    Raises:
        ValueError: If there is none.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name}: cannot be read as json: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must be a json object, got {content!r:.40}")
    return content


def check_history(content: dict[str, Any], runs: TaskRuns, name: str) -> None:
    """Check a history against a task.

    Raises:
        ValueError: If it is of another search space, budget or direction, or damaged.
    """
    missing = set(_KEYS) - set(content)
    if missing:
        raise ValueError(f"{name}: missing keys {sorted(missing)}")
    if content["space"] != json.loads(runs.space.to_json()):
        raise ValueError(f"{name}: a history of another search space")
    for key, wanted in (
        ("num_epochs", runs.num_epochs),
        ("direction", runs.direction),
    ):
        found = content.get(key, "maximize")
        if found != wanted:
            raise ValueError(f"{name}: {key} must be {wanted!r}, got {found!r}")
    for number, row in enumerate(content["runs"]):
        _check_run(row, f"{name}, runs[{number}]", content)
    for number, config in enumerate(content["candidates"]):
        runs.space.validate(config, f"{name}, candidates[{number}]")
    _check_events(content, name)


def _check_run(row: Any, where: str, content: dict) -> None:
    """Raise a ValueError that says what is wrong with a run of a history file."""
    wanted = {"id", "accuracies", "seconds", "failed"}
    if not isinstance(row, dict) or wanted - set(row):
        missing = sorted(wanted - set(row)) if isinstance(row, dict) else sorted(wanted)
        raise ValueError(f"{where}: missing keys {missing}")
    if row["id"] not in range(len(content["candidates"])):
        raise ValueError(
            f"{where}: id must be the number of a candidate, got {row['id']!r}"
        )
    num = len(row["accuracies"])
    if num > content["num_epochs"] or len(row["seconds"]) < num:
        raise ValueError(
            f"{where}: accuracies must be at most {content['num_epochs']}, and as many "
            f"as seconds, got {num} accuracies and {len(row['seconds'])} seconds"
        )
    is_loss = content.get("direction") == "minimize" or content.get("is_cold")
    bounds = (-np.inf, np.inf) if is_loss else (0, 1)
    for name, low, high in (("accuracies", *bounds), ("seconds", 1e-9, np.inf)):
        for epoch, value in enumerate(row[name]):
            is_number = isinstance(value, (int, float)) and np.isfinite(value)
            if not is_number or not low <= value <= high:
                kind = "a finite number" if is_loss else "a fraction in [0, 1]"
                kind = "a positive number" if name == "seconds" else kind
                raise ValueError(
                    f"{where}, {name}[{epoch}] must be {kind}, got {value!r}"
                )


def _check_events(content: dict, name: str) -> None:
    """The order of events must tell of every observed epoch, once."""
    events = content.get("events")
    if events is None:
        return  # a history of an older version: the runs alone
    told = {row["id"]: len(row["accuracies"]) for row in content["runs"]}
    for number, event in enumerate(events):
        where = f"{name}, events[{number}]"
        kinds = ("ask", "tell", "fail")
        if not (isinstance(event, list) and len(event) == 2 and event[0] in kinds):
            raise ValueError(f"{where} must be [{'|'.join(kinds)}, id], got {event!r}")
        if event[1] not in range(len(content["candidates"])):
            raise ValueError(f"{where}: {event[1]!r} is no candidate")
        if event[0] == "tell":
            told[event[1]] = told.get(event[1], 0) - 1
    if any(told.values()):
        raise ValueError(f"{name}: events must tell of every observed epoch once")

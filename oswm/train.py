"""`python -m oswm.train --preset small --minutes 20 --out DIR` trains a world model.

DIR/run.json        settings and the number of steps, which --minutes became once
DIR/checkpoints/    the newest two; --resume continues from the last one, bit by bit
DIR/metrics.csv     losses and validations
DIR/weights.npz     the trained model, DIR/card.json what it is: oswm.load_model(DIR)
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal, cast

# Programs of small operations: one thread per device, few compiler passes. XLA reads
# its flags when JAX starts.
if "jax" not in sys.modules or "xla_backend" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "")
        + " --xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=1"
        + " --xla_llvm_disable_expensive_passes=true"
    ).strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores))

import jax
import numpy as np
import tyro
from tqdm import tqdm

from oswm.closed_form import Persistence, Ridge
from oswm.kernel_ridge import KernelRidge
from oswm.model import TransformerModel
from oswm.nearest_neighbours import NearestNeighbours
from oswm.network import NetworkConfig, init_weights
from oswm.training import (
    STEPS_PER_CALL,
    TrainConfig,
    TrainState,
    make_advance,
    start,
)
from oswm.validation import compare, errors_of, held_out
from oswm.weights import save_model

PRESETS = {
    "tiny": TrainConfig(
        NetworkConfig(width=16, num_layers=1, num_heads=2, num_hidden=16),
        num_datasets=8,
        num_context=32,
        num_query=8,
        learning_rate=1e-2,
    ),
    "small": TrainConfig(),
    "large": TrainConfig(
        NetworkConfig(width=256, num_layers=8, num_heads=8, num_hidden=128),
        num_datasets=64,
        num_context=1000,
        num_query=128,
        learning_rate=5e-4,
    ),
}
_FORMAT_VERSION = 3
_CHECKPOINTS = 20  # in a run
_VALIDATIONS = 5
_MOST_SKIPPED = 20


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a world model on synthetic tasks."""

    out: Annotated[Path, tyro.conf.arg(help="folder of the run")]
    preset: Annotated[
        Literal["tiny", "small", "large"], tyro.conf.arg(help="sizes and settings")
    ] = "small"
    minutes: Annotated[
        float, tyro.conf.arg(help="how long to train, turned into a number of steps")
    ] = 20.0
    steps: Annotated[
        int | None, tyro.conf.arg(help="number of steps, instead of minutes")
    ] = None
    head: Annotated[
        Literal["mixture", "bars"], tyro.conf.arg(help="predictive distribution")
    ] = "mixture"
    seed: int = 0
    resume: Annotated[bool, tyro.conf.arg(help="continue the run in the folder")] = (
        False
    )
    num_validation: Annotated[
        int, tyro.conf.arg(help="held-out datasets of a validation")
    ] = 48


def config_of(options: Options) -> TrainConfig:
    """The settings of a run; tokens are bfloat16 on accelerators only."""
    config = PRESETS[options.preset]
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    network = dataclasses.replace(config.network, head=options.head, dtype=dtype)
    return dataclasses.replace(config, network=network, seed=options.seed)


def train(options: Options) -> dict[str, Any]:
    """Run or resume a training; returns the last validation.

    Raises:
        ValueError: If the folder holds a run of other settings, or there is one and
            `resume` is not set.
        FloatingPointError: If 20 steps in a row were not finite.
    """
    config = config_of(options)
    folder = options.out
    run = _read_run(folder, options, config)
    if run is None:
        num_steps = options.steps or _steps_within(config, options.minutes)
        calls = max(1, -(-num_steps // STEPS_PER_CALL))
        run = {
            "format_version": _FORMAT_VERSION,
            "config": dataclasses.asdict(config),
            "num_steps": calls * STEPS_PER_CALL,
            "backend": jax.default_backend(),
            "num_devices": jax.device_count(),
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n")
    num_steps = run["num_steps"]
    started = time.monotonic(), time.process_time()
    state, rows = _train_loop(folder, config, num_steps, options)
    report = rows[-1]
    card = {
        "trained_with": (
            f"python -m oswm.train --preset {options.preset} --steps {num_steps}"
        ),
        "prior": "default",
        "num_steps": num_steps,
        "num_datasets": num_steps * config.num_datasets // config.num_passes,
        "num_passes": config.num_passes,
        "num_weights": sum(x.size for x in jax.tree.leaves(state.weights)),
        "seed": config.seed,
        "backend": run["backend"],
        "num_devices": run["num_devices"],
        "seconds_of_last_start": round(time.monotonic() - started[0]),
        "cpu_seconds_of_last_start": round(time.process_time() - started[1]),
        "validation": report,
    }
    save_model(folder, jax.device_get(state.weights), config.network, card)
    return report


def _train_loop(folder, config, num_steps, options) -> tuple[TrainState, list[dict]]:
    import orbax.checkpoint as ocp

    advance = make_advance(config, num_steps)
    state, rows = start(config, num_steps), []
    manager_options = ocp.CheckpointManagerOptions(
        max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    with ocp.CheckpointManager(
        (folder / "checkpoints").absolute(), options=manager_options
    ) as manager:
        if manager.latest_step() is not None:
            restored = manager.restore(
                manager.latest_step(),
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(jax.device_get(state)),
                    rows=ocp.args.JsonRestore(),
                ),
            )
            state, rows = restored["state"], restored["rows"]
        data = held_out(options.num_validation, config.num_context, config.num_query)
        baselines = _baseline_errors(folder, config, data)
        every = max(1, num_steps // STEPS_PER_CALL // _CHECKPOINTS)
        calls = num_steps // STEPS_PER_CALL
        done = int(state.step) // STEPS_PER_CALL
        with tqdm(
            total=num_steps, initial=int(state.step), unit="step", disable=None
        ) as bar:
            for call in range(done, calls):
                state, losses = advance(state)
                if int(state.num_skipped) > _MOST_SKIPPED:
                    raise FloatingPointError(
                        f"step {int(state.step)}: losses or gradients were not finite "
                        f"in {int(state.num_skipped)} steps in a row; lower "
                        "learning_rate, or report the seed"
                    )
                loss = float(np.nanmean(losses))
                bar.update(STEPS_PER_CALL)
                bar.set_postfix(loss=f"{loss:.3f}")
                is_last = call + 1 == calls
                if (call + 1) % every == 0 or is_last:
                    row: dict[str, Any] = {"step": int(state.step), "loss": loss}
                    if (
                        is_last
                        or (call + 1) % (every * _CHECKPOINTS // _VALIDATIONS) == 0
                    ):
                        row |= _validate(state, config, data, baselines)
                        bar.write(_line(row))
                    rows.append(row)
                    manager.save(
                        int(state.step),
                        args=ocp.args.Composite(
                            state=ocp.args.StandardSave(jax.device_get(state)),
                            rows=ocp.args.JsonSave(cast(Any, rows)),
                        ),
                    )
                    _write_metrics(folder / "metrics.csv", rows)
    return state, rows


def _baseline_errors(folder: Path, config: TrainConfig, data) -> dict[str, np.ndarray]:
    path = folder / "baselines.npz"  # computed once: a resumed run reads them
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file}
        if len(found["ridge"]) == len(data.obs_mask):
            return found
    models = {
        "persistence": Persistence(),
        "knn": NearestNeighbours(),
        "ridge": Ridge(),
        "kernel_ridge": KernelRidge(num_landmarks=64),
        "base": config.base,
        "blend": _transformer(init_weights(jax.random.key(0), config.network), config),
    }
    bar = tqdm(models.items(), "validation of baselines", leave=False, disable=None)
    found = {name: errors_of(model, data) for name, model in bar}
    np.savez(path, **found)  # type: ignore[arg-type]
    return found


def _validate(state, config, data, baselines) -> dict[str, float]:
    model = _transformer(state.weights, config)
    return compare({"oswm": errors_of(model, data), **baselines})


def _transformer(weights, config) -> TransformerModel:
    return TransformerModel(jax.device_get(weights), config.network, base=config.base)


def _line(row: dict) -> str:
    return (
        f"step {row['step']}: loss {row['loss']:.3f}, held-out error "
        f"{row['error_oswm']:.2e} (blend {row['error_blend']:.2e}, ridge "
        f"{row['error_ridge']:.2e}, kernel ridge {row['error_kernel_ridge']:.2e}); "
        f"beats ridge on {100 * row['beats_ridge']:.0f} %, the blend on "
        f"{100 * row['beats_blend']:.0f} %"
    )


def _steps_within(config: TrainConfig, minutes: float) -> int:
    """How many steps fit, from the time that some take now."""
    if not minutes > 0:
        raise ValueError(f"minutes: expected more than 0, got {minutes}")
    advance = make_advance(config, 1000)
    state, _ = jax.block_until_ready(advance(start(config, 1000)))
    begin = time.monotonic()
    jax.block_until_ready(advance(state))
    seconds = (time.monotonic() - begin) / STEPS_PER_CALL
    return max(STEPS_PER_CALL, int(60 * minutes / seconds))


def _read_run(folder: Path, options: Options, config: TrainConfig) -> dict | None:
    path = folder / "run.json"
    if not path.exists():
        return None
    if not options.resume:
        raise ValueError(
            f"out: {folder} already holds a run; pass --resume to continue it, or "
            "choose another folder"
        )
    run = json.loads(path.read_text())
    if run.get("format_version") != _FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {run.get('format_version')!r}, expected "
            f"{_FORMAT_VERSION}"
        )
    if run["config"] != json.loads(json.dumps(dataclasses.asdict(config))):
        raise ValueError(f"out: {folder} holds a run of other settings; see {path}")
    return run


def _write_metrics(path: Path, rows: list[dict]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def main() -> None:
    """Command line."""
    options = tyro.cli(Options, description=__doc__)
    try:
        train(options)
    except (ValueError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"trained: oswm.load_model({str(options.out)!r})")


if __name__ == "__main__":
    main()

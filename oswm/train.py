"""`python -m oswm.train --preset small --minutes 20 --out DIR` trains a world model.

The run is `oswm.pretraining`'s: what its folder holds is said there. --resume goes on
from the newest checkpoint, bit by bit; `oswm.load_model(DIR)` reads the result.

With --preset kernels it trains the network that guesses how much inputs matter to
kernels, `oswm.kernel_pretraining`'s; `oswm.load_guess(DIR)` reads that.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "network": {"width": 16, "num_layers": 1, "num_heads": 2, "num_hidden": 16},
        "num_datasets": 8,
        "num_context": 32,
        "num_query": 8,
        "learning_rate": 1e-2,
    },
    "small": {"network": {}},
    "large": {
        "network": {"width": 256, "num_layers": 8, "num_heads": 8, "num_hidden": 128},
        "num_datasets": 64,
        "num_context": 1000,
        "num_query": 128,
        "learning_rate": 5e-4,
    },
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a world model, or a guess of kernels, on synthetic tasks."""

    out: Annotated[Path, tyro.conf.arg(help="folder of the run")]
    preset: Annotated[
        Literal["tiny", "small", "large", "kernels"],
        tyro.conf.arg(help="sizes and settings of a world model; or kernels"),
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


def config_of(options: Options) -> Any:
    """The `TransformerTraining` of a run; tokens are bfloat16 on accelerators only."""
    import jax

    from oswm.network import NetworkConfig
    from oswm.training import TransformerTraining

    settings = dict(_SIZES[options.preset])
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    network = NetworkConfig(**settings.pop("network"), head=options.head, dtype=dtype)
    return TransformerTraining(network, seed=options.seed, **settings)


def set_flags() -> None:
    """Programs of small operations: one thread per device, few compiler passes.

    XLA reads its flags when JAX first asks for devices, so this has to come before.
    """
    if "xla_backend" in os.environ.get("XLA_FLAGS", ""):
        return
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "")
        + " --xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=1"
        + " --xla_llvm_disable_expensive_passes=true"
    ).strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores))


def main() -> None:
    """Command line."""
    options = tyro.cli(Options, description=__doc__)
    set_flags()
    from jaxrl_runs.commands import run_command
    from oswm.kernel_pretraining import pretrain_guess
    from oswm.kernel_training import GuessTraining
    from oswm.pretraining import pretrain

    def train() -> None:
        command = f"python -m oswm.train --preset {options.preset}"
        settings: dict[str, Any] = {
            "steps": options.steps,
            "minutes": options.minutes,
            "num_validation": options.num_validation,
            "resume": options.resume,
            "about": {"trained_with": command},
        }
        if options.preset == "kernels":
            config = GuessTraining(seed=options.seed)
            pretrain_guess(options.out, config, **settings)
            print(f"trained: oswm.load_guess({str(options.out)!r})")
            return
        pretrain(options.out, config_of(options), **settings)
        print(f"trained: oswm.load_model({str(options.out)!r})")

    run_command(train)


if __name__ == "__main__":
    main()

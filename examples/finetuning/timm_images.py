"""Finetune pretrained timm models on a folder of pictures, tonight.

The folder holds one folder per class, or ``train/`` and ``val/`` with these. Models
that the shipped surrogates know by name are chosen among by them, others from a cold
start. Weights come from timm's hub, or from files ``NAME.safetensors`` in a folder
that the environment variable FINETUNE_WEIGHTS names (``random``: none, for a trial).

    pip install -e ".[timm]"
    python examples/finetuning/timm_images.py --folder photos --out runs/photos

A run that was stopped goes on with ``--resume``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

import finetune


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        folder: Of pictures.
        out: Folder of the job: history, curves, checkpoints.
        models: Names, as timm has them.
        minutes: Of wall time.
        side: Of the pictures that models see.
        workers: Processes, one per GPU.
        resume: Go on with the job in ``out``.
    """

    folder: Path
    out: Path
    models: tuple[str, ...] = (
        "mobilevit_xs",
        "edgenext_small",
        "deit3_small_patch16_384_in21ft1k",
        "convnext_small_384_in22ft1k",
    )
    minutes: float = 60.0
    side: int = 224
    workers: int = 1
    resume: bool = False


def main(args: Args) -> finetune.JobResult:
    """Run the job and say what it found."""
    result = finetune.run(
        args.folder,
        models=args.models,
        minutes=args.minutes,
        side=args.side,
        out=args.out,
        workers=args.workers,
        device_variable="CUDA_VISIBLE_DEVICES" if args.workers > 1 else None,
        resume=args.resume,
    )
    print(f"held-out accuracy {result.score:.4f} after epoch {result.epoch}")
    print(f"configuration {result.config}")
    print(f"weights {result.checkpoint}/state.pth")
    return result


if __name__ == "__main__":
    main(tyro.cli(Args))

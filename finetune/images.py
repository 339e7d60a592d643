"""`finetune.run("photos/", models=[...], minutes=60)`: an image folder, end to end."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.bundle import Surrogates
from finetune.image_folder import ImageFolder, read_image_folder
from finetune.space import Categorical, Config, Float, Ordinal, SearchSpace
from jaxrl_runs.values import POSITIVE, SEED

# Of the shipped space: what the training loop of this package does not do. The
# surrogates are told that it is off, which is a choice they know.
LEFT_OUT: dict[str, tuple[Any, ...]] = {
    "amp": (0.0,),  # mixed precision
    "bss_reg": (0.0,),  # batch spectral shrinkage of features (Chen et al., 2019)
    "cotuning_reg": (0.0,),  # keeps the source classes' head in the loss (You, 2020)
    "delta_reg": (0.0,),  # keeps features near the pretrained ones (Li et al., 2019)
    "sp_reg": (0.0,),  # keeps weights near the pretrained ones (L2-SP; Li, 2018)
    "stoch_norm": (0.0,),  # batch norm mixes batch and pretrained moments (Kou, 2020)
    "layer_decay": (None,),  # smaller learning rate for earlier layers
    "data_augmentation": ("None",),
    "cutmix": (0.0,),
    "opt": ("adam", "adamw", "momentum", "sgd"),
}

# for models that the shipped surrogates do not know
OWN_SPACE = (
    Categorical("opt", ("adamw", "momentum")),
    Float("lr", 1e-5, 1e-2, log=True),
    Ordinal("batch_size", (16.0, 32.0, 64.0), log=True),
    Ordinal("weight_decay", (0.0, 1e-4, 1e-2), log=True),
    Ordinal("pct_to_freeze", (0.0, 0.4, 0.8, 1.0)),
    Ordinal("smoothing", (0.0, 0.1)),
    Ordinal("drop", (0.0, 0.2)),
    Categorical("sched", ("cosine",)),
)


def draw_candidates(
    space: SearchSpace,
    only: Mapping[str, Sequence[Any]],
    num: int = 400,
    seed: int = 0,
) -> list[Config]:
    """Draw configurations of a space in which some hyperparameters are held.

    They belong to the whole space, so surrogates of it know them.

    Args:
        space: The whole space.
        only: Values that are allowed, by hyperparameter; None stands for "not used".
        num: How many at most.
        seed: Of the draws.

    Raises:
        ValueError: If a name or a value is not in the space.
    """
    unknown = sorted(set(only) - {h.name for h in space.hyperparameters})
    if unknown:
        raise ValueError(f"only: not in the space: {unknown}")
    for name, allowed in only.items():
        for value in allowed:
            if not space[name].contains(value):
                raise ValueError(
                    f"only: {name} must be {space[name].describe()}, got {value!r}"
                )
    SEED.check("seed", seed)
    random = np.random.default_rng(seed)
    found: dict[bytes, Config] = {}
    for _ in range(20 * num):
        drawn = {h.name: h.sample(random) for h in space.hyperparameters}
        for name, allowed in only.items():
            drawn[name] = allowed[int(random.integers(len(allowed)))]
        config = {k: v for k, v in drawn.items() if space.is_active(k, drawn)}
        found.setdefault(space.to_vector(config).tobytes(), config)
        if len(found) >= num:
            break
    return list(found.values())


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """What a job on an image folder chooses from.

    Attributes:
        folder: The pictures.
        settings: Of `finetune.Tuner`: surrogates with candidates and meta-features, or
            a space.
        is_known: Whether the shipped surrogates know all models by name.
    """

    folder: ImageFolder
    settings: dict[str, Any]
    is_known: bool


def describe_task(
    folder: str | Path, models: Sequence[str], num_candidates: int = 400, seed: int = 0
) -> ImageTask:
    """Read a folder and restrict what is known to the models that the user has.

    Args:
        folder: Of pictures; see `finetune.image_folder`.
        models: Names, as timm has them.
        num_candidates: Configurations to choose from.
        seed: Of what is drawn.

    Raises:
        ValueError: If the folder is none of pictures, or ``models`` is empty.
    """
    is_list = isinstance(models, Sequence) and not isinstance(models, str)
    if not is_list or not models or not all(isinstance(m, str) for m in models):
        raise ValueError(f"models must be a list of names, one or more, got {models!r}")
    pictures = read_image_folder(folder, seed)
    surrogates = Surrogates.load()
    known = surrogates.space["model"].choices  # type: ignore[union-attr]
    is_known = set(models) <= set(known)
    if is_known:
        candidates = draw_candidates(
            surrogates.space, {**LEFT_OUT, "model": tuple(models)}, num_candidates, seed
        )
        settings: dict[str, Any] = {
            "surrogates": surrogates,
            "meta_features": pictures.meta_features,
            "candidates": candidates,
        }
    else:
        space = SearchSpace((Categorical("model", tuple(models)), *OWN_SPACE))
        settings = {"space": space, "num_candidates": num_candidates}
    return ImageTask(pictures, settings, is_known)


def run_images(
    folder: str | Path,
    models: Sequence[str],
    *,
    minutes: float,
    out: str | Path,
    train: Callable[..., Any] | None = None,
    side: int = 224,
    num_candidates: int = 400,
    seed: int = 0,
    **settings: Any,
) -> Any:
    """Finetune pretrained models on an image folder until the minutes are over.

    Models that the shipped surrogates know by name are chosen among by them. With any
    other, they are not used, and the tuner starts cold, over a space of eight
    hyperparameters.

    Args:
        folder: Of pictures, one folder per class.
        models: Names, as timm has them.
        minutes: Of wall time.
        out: Folder of the job.
        train: ``(epoch, folder, side) -> score``, instead of timm and PyTorch.
        side: Of the pictures that models see, in pixels.
        num_candidates: Configurations to choose from.
        seed: Of everything that is drawn.
        **settings: Of `finetune.run`.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: Without timm, where ``train`` is None.
    """
    from finetune.job import run

    POSITIVE.check("minutes", minutes)
    if train is None:
        from finetune.timm_training import train_epoch as train
    task = describe_task(folder, models, num_candidates, seed)
    pictures = task.folder
    what = "shipped surrogates" if task.is_known else "cold: a model they do not know"
    print(
        f"{len(pictures.train)} pictures of {len(pictures.classes)} classes, "
        f"{len(pictures.valid)} held out; {what}",
        file=sys.stderr,
    )
    return run(
        functools.partial(train, folder=pictures, side=side),
        budget=60 * minutes,
        out=out,
        seed=seed,
        **{**task.settings, **settings},
    )

"""A folder of pictures: which there are, what they say of the task, batches of them.

Layouts: ``FOLDER/CLASS/picture.jpg``, of which a fifth is held out, or
``FOLDER/train/CLASS/..`` with ``FOLDER/val/CLASS/..`` (or ``valid``, ``test``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from finetune.meta_features import image_meta_features
from jaxrl_runs.values import SEED

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
_HELD_OUT = ("val", "valid", "validation", "test")


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Pictures with classes.

    Attributes:
        classes: Names, in the order of their numbers.
        train: Paths of the training pictures.
        train_labels: Class numbers, int ``[n]``.
        valid: Paths of the held-out pictures.
        valid_labels: Class numbers, int ``[v]``.
        resolution: Median of the larger side of up to 64 pictures, in pixels.
        num_channels: 3, or 1 where all of these are grey.
    """

    classes: tuple[str, ...]
    train: tuple[Path, ...]
    train_labels: np.ndarray
    valid: tuple[Path, ...]
    valid_labels: np.ndarray
    resolution: int
    num_channels: int

    @property
    def meta_features(self) -> np.ndarray:
        """What the shipped surrogates want to know of the task, float32 ``[4]``."""
        return image_meta_features(
            len(self.train), len(self.classes), self.resolution, self.num_channels
        )

    def batches(
        self, side: int, batch_size: int, seed: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pictures, float32 ``[b, side, side, 3]`` in [0, 1], and labels, int ``[b]``.

        Args:
            side: Pictures are resized and cropped to it.
            batch_size: The last batch may be smaller.
            seed: Of the order of the training pictures; None: the held-out pictures,
                in order.
        """
        paths, labels = self.valid, self.valid_labels
        order = np.arange(len(paths))
        if seed is not None:
            paths, labels = self.train, self.train_labels
            order = np.random.default_rng(seed).permutation(len(paths))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield np.stack([read_image(paths[i], side) for i in rows]), labels[rows]


def read_image(path: Path, side: int) -> np.ndarray:
    """Read a picture, its shorter side resized and the middle kept, ``[s, s, 3]``.

    Raises:
        ValueError: If it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            square = ImageOps.fit(image.convert("RGB"), (side, side))
            return np.asarray(square, np.float32) / 255
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from None


def read_image_folder(
    folder: str | Path, seed: int = 0, held_out: float = 0.2
) -> ImageFolder:
    """Find the pictures of a folder.

    Args:
        folder: In one of the layouts above.
        seed: Of what is held out, where the folder does not say.
        held_out: Share of each class.

    Raises:
        ValueError: If there are fewer than two classes, or none of a class is left to
            train or to hold out.
        ImportError: Without Pillow.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ImportError("reading pictures needs Pillow: pip install pillow") from None
    SEED.check("seed", seed)
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"folder must be a folder of pictures, got {str(folder)!r}")
    valid_root = next((folder / n for n in _HELD_OUT if (folder / n).is_dir()), None)
    if (folder / "train").is_dir() and valid_root is not None:
        train, valid = _list(folder / "train"), _list(valid_root)
        unknown = sorted(set(valid) - set(train))
        if unknown:
            raise ValueError(f"{valid_root.name}: classes without training: {unknown}")
    else:
        train, valid = {}, {}
        random = np.random.default_rng(seed)
        for name, paths in _list(folder).items():
            order = random.permutation(len(paths))
            num = max(1, round(held_out * len(paths)))
            valid[name] = [paths[i] for i in order[:num]]
            train[name] = [paths[i] for i in order[num:]]
    classes = tuple(sorted(train))
    empty = [name for name in classes if not train[name]]
    if len(classes) < 2 or empty or not any(valid.values()):
        raise ValueError(
            f"{folder.name}: must hold two folders or more, one per class, with two "
            f"pictures or more each, got {list(classes)}"
            + (f"; too few in {empty}" if empty else "")
        )
    resolution, channels = _look([p for name in classes for p in train[name]])
    return ImageFolder(
        classes,
        *_flat(train, classes),
        *_flat(valid, classes),
        resolution,
        channels,
    )


def _list(root: Path) -> dict[str, list[Path]]:
    """Pictures by class."""
    found = {}
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            paths = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES]
            if paths:
                found[folder.name] = sorted(paths)
    return found


def _flat(
    by_class: dict[str, list[Path]], classes: tuple[str, ...]
) -> tuple[tuple[Path, ...], np.ndarray]:
    paths = tuple(p for name in classes for p in by_class.get(name, []))
    counts = [len(by_class.get(name, [])) for name in classes]
    return paths, np.repeat(np.arange(len(classes)), counts)


def _look(paths: list[Path]) -> tuple[int, int]:
    """Side and channels of a few pictures."""
    from PIL import Image

    sides, is_grey = [], True
    for i in np.unique(np.linspace(0, len(paths) - 1, 64).astype(int)):
        with Image.open(paths[i]) as image:
            sides.append(max(image.size))
            is_grey = is_grey and image.mode in ("1", "L", "I", "F", "LA", "I;16")
    return int(np.median(sides)), 1 if is_grey else 3

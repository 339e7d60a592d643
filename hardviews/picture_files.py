"""Pictures from files: npz, folders of picture files, CIFAR-10's binary version.

What holds no test pictures is split: a share of each class, or of all pictures without
labels, drawn by a seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hardviews.checks import SMALLEST
from hardviews.pictures import Pictures, make_pictures
from jaxrl_runs.values import PATH, SEED, Integer, Number
from jaxrl_runs.weight_files import MAX_BYTES, read_weights

READ = (
    "an npz file with train_images and test_images, or images to be split (labels: "
    "train_labels and test_labels, or labels); a folder of picture files, "
    "FOLDER/train/CLASS/.. with FOLDER/test/CLASS/.., or FOLDER/CLASS/.. to be split; "
    "or the folder of CIFAR-10's binary version"
)
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_HELD_OUT = ("test", "val", "valid", "validation")
_CIFAR10_ROW = 1 + 3 * 32 * 32
_SHARE = Number(above=0.0, below=1.0)
_SIZE = Integer(at_least=SMALLEST, at_most=1024, optional=True)
Arrays = dict[str, np.ndarray]


def read_pictures(
    path: str | Path,
    *,
    size: int | None = None,
    test_share: float = 0.2,
    seed: int = 0,
) -> tuple[Pictures, Pictures]:
    """Reads training and test pictures.

    Args:
        path: One of these.

            * An npz file, or a folder with one npz file in it, with the arrays
              `train_images`, `test_images` and, where there are labels,
              `train_labels`, `test_labels`; or `images` and maybe `labels`, to be
              split.
            * A folder of picture files (needs Pillow): `train/CLASS/..` and
              `test/CLASS/..` (or `val`, `valid`, `validation`), or `CLASS/..`, to be
              split. Classes are numbered in the order of their names. Files that lie
              in no folder of a class have no labels.
            * The folder of CIFAR-10's binary version, with `data_batch_1.bin` and so
              on.
        size: Side that picture files are resized to, the shorter side fitted and the
            middle kept; None: they must be square and of one side already.
        test_share: Share of each class that is kept for tests, where the source does
            not say which.
        seed: Of that split.

    Returns:
        Training and test pictures; both are standardised by the training pictures.

    Raises:
        FileNotFoundError: No such file or folder, or nothing in it that is read.
        ValueError: It is damaged, foreign, or holds no such pictures.
        ImportError: Picture files, and no Pillow.
    """
    PATH.check("path", path)
    _SIZE.check("size", size)
    _SHARE.check("test_share", test_share)
    SEED.check("seed", seed)
    path = Path(path)
    arrays = _read(path, size)
    try:
        if "train_images" not in arrays:
            arrays = _split(arrays, test_share, seed)
        train, test = (
            make_pictures(arrays[f"{part}_images"], arrays.get(f"{part}_labels"))
            for part in ("train", "test")
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return train, test.replace(mean=train.mean, std=train.std)  # type: ignore[attr-defined]


def _read(path: Path, size: int | None) -> Arrays:
    """Arrays `train_images`, `test_images`, ..., or `images`, `labels`."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return _read_npz(path, size)
    if any(path.glob("data_batch_*.bin")):
        return _without(size, path, _read_cifar10(path))
    npz = sorted(path.glob("*.npz"))
    if len(npz) == 1:
        return _read_npz(npz[0], size)
    if npz:
        raise FileNotFoundError(
            f"{path}: expected one npz file with pictures, found {len(npz)}: "
            f"{', '.join(p.name for p in npz[:4])}; name one of them"
        )
    return _read_folder(path, size)


def _without(size: int | None, path: Path, arrays: Arrays) -> Arrays:
    if size is not None:
        raise ValueError(
            f"size must be None for {path.name}, which holds arrays, got {size}; "
            "picture files are resized"
        )
    return arrays


def _read_npz(path: Path, size: int | None) -> Arrays:
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{path}: a {path.suffix or 'nameless'} file; read are {READ}")
    metadata, arrays = read_weights(path, what="pictures")
    if "network" in metadata:
        raise ValueError(f"{path}: holds an encoder; load_encoder reads it")
    has_parts = {"train_images", "test_images"} <= arrays.keys()
    has_all = "images" in arrays and not {"train_images", "test_images"} & arrays.keys()
    if not (has_parts or has_all):
        found = ", ".join(sorted(arrays)[:8]) or "none"
        missing = sorted({"train_images", "test_images"} - arrays.keys())
        raise ValueError(
            f"{path}: {', '.join(missing)} is missing, found the arrays {found}; an "
            "npz file holds train_images and test_images, or images to be split, and "
            "train_labels and test_labels, or labels"
        )
    if has_parts and ("train_labels" in arrays) != ("test_labels" in arrays):
        there, missing = sorted(
            ("train_labels", "test_labels"), key=lambda name: name not in arrays
        )
        raise ValueError(
            f"{path}: {there} is there, {missing} is missing; leave both out to train "
            "without evaluation"
        )
    return _without(size, path, arrays)


def _split(arrays: Arrays, share: float, seed: int) -> Arrays:
    """Training and test pictures, by a share of each class.

    Raises:
        ValueError: There are too few.
    """
    images, labels = np.asarray(arrays["images"]), arrays.get("labels")
    if images.ndim < 1 or len(images) < 2:
        raise ValueError(
            f"images must hold two pictures or more to be split, got shape "
            f"{images.shape}"
        )
    if labels is not None and np.shape(labels) != (len(images),):
        make_pictures(images, labels)  # says what is wrong
    classes = np.zeros(len(images)) if labels is None else np.asarray(labels)
    random = np.random.default_rng(seed)
    is_test = np.zeros(len(images), bool)
    for label in np.unique(classes):
        rows = random.permutation(np.flatnonzero(classes == label))
        # One picture of a class is trained on; of more, one is a test.
        number = min(max(1, round(share * len(rows))), len(rows) - 1)
        is_test[rows[:number]] = True
    if not is_test.any():
        raise ValueError(
            f"labels must have a class of two pictures or more for a test of a share "
            f"of {share:g}, got {len(np.unique(classes))} classes of one"
        )
    found = {"train_images": images[~is_test], "test_images": images[is_test]}
    if labels is not None:
        labels = np.asarray(labels)
        found |= {"train_labels": labels[~is_test], "test_labels": labels[is_test]}
    return found


# ------------------------------------------------------------------- picture files


def _read_folder(folder: Path, size: int | None) -> Arrays:
    """Picture files by class."""
    held_out = next((folder / n for n in _HELD_OUT if (folder / n).is_dir()), None)
    has_train = (folder / "train").is_dir()
    if held_out is None:
        root = folder / "train" if has_train else folder
        classes = _list(root)
        return _load(classes, sorted(classes), size, "", root)
    if not has_train:
        raise FileNotFoundError(f"{folder}: train is missing beside {held_out.name}")
    train, test = _list(folder / "train"), _list(held_out)
    if ("" in train) != ("" in test):
        raise ValueError(
            f"{folder}: train and {held_out.name} must both hold folders of classes, "
            "or none, got one of each"
        )
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise ValueError(f"{held_out}: classes without training: {unknown}")
    names = sorted(train)
    found = _load(train, names, size, "train_", folder / "train")
    return found | _load(test, names, size, "test_", held_out)


def _list(root: Path) -> dict[str, list[Path]]:
    """Pictures by class; files that lie in no folder are of the class "".

    Raises:
        FileNotFoundError: There are none.
        ValueError: Some lie in folders and some do not.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        is_hidden = any(part.startswith(".") for part in parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not is_hidden:
            found.setdefault(parts[0] if len(parts) > 1 else "", []).append(path)
    if not found:
        raise FileNotFoundError(
            f"{root}: found 0 npz files, no data_batch_*.bin and no picture files; "
            f"read are {READ}"
        )
    if "" in found and len(found) > 1:
        raise ValueError(
            f"{root}: holds {len(found['']):d} picture files beside folders of classes "
            f"({', '.join(sorted(found)[1:4])}); move them into one"
        )
    return found


def _load(
    classes: dict[str, list[Path]],
    names: list[str],
    size: int | None,
    prefix: str,
    root: Path,
) -> Arrays:
    """Pictures uint8 `[N, size, size, 3]`, and labels where there are classes."""
    paths = [path for name in names for path in classes.get(name, [])]
    first = read_picture(paths[0], size)
    num_bytes = len(paths) * first.size
    if num_bytes > MAX_BYTES:
        raise ValueError(
            f"{root}: {len(paths)} pictures of side {len(first)} are {num_bytes} "
            f"bytes, more than the limit of {MAX_BYTES}; choose a smaller size"
        )
    images = np.empty((len(paths), *first.shape), np.uint8)
    for row, path in enumerate(paths):
        image = read_picture(path, size)
        if image.shape != first.shape:
            raise ValueError(
                f"{path}: {len(image)} pixels, where {paths[0].name} has {len(first)}; "
                "resize all to one side by size=32 (--size 32)"
            )
        images[row] = image
    arrays: Arrays = {f"{prefix}images": images}
    if names != [""]:
        counts = [len(classes.get(name, [])) for name in names]
        arrays[f"{prefix}labels"] = np.repeat(np.arange(len(names)), counts)
    return arrays


def read_picture(path: Path, size: int | None) -> np.ndarray:
    """Reads a picture file, uint8 `[S, S, 3]`; grey ones get three channels alike.

    Args:
        path: The file.
        size: Side that it is resized to; None: as it is.

    Raises:
        ValueError: It cannot be read, or is not square and `size` is None.
        ImportError: Without Pillow.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ImportError("reading pictures needs Pillow: pip install pillow") from None
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(
                    f"{path}: has levels of mode {image.mode!r}; save it with 8 bits"
                )
            upright: Any = ImageOps.exif_transpose(image)
            upright = upright.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from None
    if size is not None:
        upright = ImageOps.fit(upright, (size, size))
    width, height = upright.size
    if width != height:
        raise ValueError(
            f"{path}: {width} x {height} pixels is not square; cut and resize all to "
            "one side by size=32 (--size 32)"
        )
    return np.asarray(upright)


# ------------------------------------------------------------------------- CIFAR-10


def _read_cifar10(folder: Path) -> Arrays:
    """CIFAR-10's binary version: rows of a label and 3 x 32 x 32 values."""
    arrays: Arrays = {}
    for part, pattern in (("train", "data_batch_*.bin"), ("test", "test_batch.bin")):
        paths = sorted(folder.glob(pattern))
        if not paths:
            raise FileNotFoundError(f"{folder}: {pattern} is missing")
        rows = np.concatenate([_read_rows(path) for path in paths])
        arrays[f"{part}_labels"] = rows[:, 0]
        images = rows[:, 1:].reshape(-1, 3, 32, 32)
        arrays[f"{part}_images"] = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return arrays


def _read_rows(path: Path) -> np.ndarray:
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if content.size == 0 or content.size % _CIFAR10_ROW:
        raise ValueError(
            f"{path}: must hold rows of {_CIFAR10_ROW} bytes, got {content.size} bytes"
        )
    return content.reshape(-1, _CIFAR10_ROW)

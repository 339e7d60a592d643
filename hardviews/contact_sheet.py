"""Every operation and augmentation on some pictures, as one picture to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hardviews import color, geometry, quality
from hardviews.augmentations import Crop, CropAndJitter, RandAugment, TrivialAugment
from hardviews.checks import check_images
from hardviews.group_augment import GroupAugment
from hardviews.pictures import as_float
from jaxrl_runs.values import MANY, PATH, seed_key

Change = Callable[[jax.Array, jax.Array], jax.Array]  # (key, image) -> image


def _moved(change: Callable[[jax.Array, jax.Array], jax.Array]) -> Change:
    def apply(key, image):
        where = geometry.coordinates(image.shape[0])
        return geometry.sample(image, change(key, where))

    return apply


def _plain(change: Callable[[jax.Array], jax.Array]) -> Change:
    return lambda key, image: change(image)


def _whole(augmentation: Any) -> Change:
    return lambda key, image: augmentation(key, image, image.shape[0])[0]


CHANGES: dict[str, Change] = {
    "picture": _plain(lambda image: image),
    "crop": _whole(Crop()),
    "flip": _moved(lambda key, where: geometry.flip(where)),
    "shift, scale, rotate": _moved(geometry.shift_scale_rotate),
    "elastic": _moved(geometry.elastic),
    "grid distortion": _moved(geometry.grid_distortion),
    "optical distortion": _moved(geometry.optical_distortion),
    "jitter": color.color_jitter,
    "grey": _plain(color.grey),
    "solarise": _plain(color.solarise),
    "equalise": _plain(color.equalise),
    "shuffle channels": color.shuffle_channels,
    "posterise, 3 bits": _plain(lambda image: color.posterise(image, 3)),
    "autocontrast": _plain(color.autocontrast),
    "sharpen": _plain(lambda image: quality.sharpen(image, 1.9)),
    "blur": _plain(lambda image: quality.gaussian_blur(image, 1.5)),
    "noise": lambda key, image: quality.gaussian_noise(key, image, 0.05),
    "grid shuffle": quality.grid_shuffle,
    "cut out": quality.cut_out,
    "SimSiam's views": _whole(CropAndJitter()),
    "TrivialAugment": _whole(TrivialAugment()),
    "RandAugment": _whole(RandAugment()),
    "GroupAugment": _whole(
        GroupAugment(p_non_rigid=0.5, p_quality=0.5, p_exotic=0.5, n_total=5.0)
    ),
}


@jax.jit
def _changed(key: jax.Array, images: jax.Array) -> dict[str, jax.Array]:
    keys = jax.random.split(key, len(images))
    return {name: jax.vmap(change)(keys, images) for name, change in CHANGES.items()}


def draw_contact_sheet(
    path: str | Path, images: Any, num_pictures: int = 12, seed: int = 0
) -> Path:
    """Draws a row per operation, a column per picture.

    Args:
        path: Where to write the picture (png, pdf, svg).
        images: uint8, or floating point in [0, 1], `[N, S, S, 3]`.
        num_pictures: Columns; fewer where there are fewer pictures.
        seed: Of the randomness.

    Returns:
        The path written.

    Raises:
        ValueError: The pictures are grey, not square, out of range or of another dtype.
    """
    # Here: it takes half of the time that importing `hardviews` would take with it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    PATH.check("path", path)
    MANY.check("num_pictures", num_pictures)
    key = seed_key(seed)
    chosen = as_float(check_images("images", images, batched=True)[:num_pictures])
    rows = jax.device_get(_changed(key, jnp.asarray(chosen)))
    columns = len(chosen)
    figure = Figure(figsize=(0.62 * columns + 1.9, 0.62 * len(rows)), dpi=110)
    FigureCanvasAgg(figure)
    left = 1.9 / (0.62 * columns + 1.9)
    axes = figure.add_axes((left, 0.0, 1 - left, 1.0))
    side = chosen.shape[1] + 2
    sheet = np.ones((side * len(rows), side * columns, 3), np.float32)
    for row, name in enumerate(CHANGES):
        for column in range(columns):
            top, start = row * side + 1, column * side + 1
            picture = np.clip(rows[name][column], 0.0, 1.0)
            sheet[top : top + side - 2, start : start + side - 2] = picture
        axes.text(-4, (row + 0.5) * side, name, ha="right", va="center", fontsize=9)
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    figure.savefig(path)
    return Path(path)

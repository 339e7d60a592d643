"""Series and pictures to what members read: scaled arrays, and columns made of them."""

from __future__ import annotations

import itertools

import numpy as np

_LAGS = (1, 2, 4, 8)
_NUM_PARTS = 8  # stretches of a series, bands of its spectrum
_MAX_COLUMNS = 256  # of a picture's values; above, their principal components
_NUM_COMPONENTS = 96
_MAX_SIDE = 32


def summaries(series: np.ndarray) -> np.ndarray:
    """Describe each channel of each series.

    Moments, quantiles, slope, roughness, autocorrelations, means of stretches, power
    in bands of frequency, where the extremes lie.

    Args:
        series: ``[n, length, channels]``, finite.

    Returns:
        float32 ``[n, channels * columns]``.
    """
    x = np.moveaxis(np.asarray(series, float), 1, 2)  # [n, channels, length]
    length = x.shape[2]
    mean, std = x.mean(2), x.std(2)
    z = (x - mean[..., None]) / np.maximum(std, 1e-9)[..., None]
    time = np.linspace(-1, 1, length)
    steps = np.diff(x, axis=2) if length > 1 else np.zeros_like(x)
    found = [
        mean,
        std,
        *np.quantile(x, (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1), axis=2),
        (z**3).mean(2),
        (z**4).mean(2),
        (z * time).mean(2),
        np.abs(steps).mean(2),
        steps.std(2),
        (np.diff(np.sign(z), axis=2) != 0).mean(2) if length > 1 else 0 * mean,
        x.argmax(2) / length,
        x.argmin(2) / length,
    ]
    found += [(z[..., lag:] * z[..., :-lag]).mean(2) for lag in _LAGS if lag < length]
    edges = np.linspace(0, length, min(_NUM_PARTS, length) + 1).astype(int)
    found += [x[..., a:b].mean(2) for a, b in itertools.pairwise(edges)]
    power = np.abs(np.fft.rfft(z, axis=2)[..., 1:]) ** 2 / length
    bands = np.unique(np.geomspace(1, power.shape[2] + 1, _NUM_PARTS + 1).astype(int))
    found += [
        np.log1p(power[..., a - 1 : b - 1].sum(2)) for a, b in itertools.pairwise(bands)
    ]
    return np.concatenate(found, 1).astype(np.float32)


class SeriesView:
    """Scales series by the training ones; what is missing becomes a channel's mean.

    Args:
        series: The training series, ``[n, length, channels]``.
    """

    def __init__(self, series: np.ndarray):
        known = np.where(np.isfinite(series), series, np.nan)
        if np.isnan(known).all((0, 1)).any():
            raise ValueError("series: a channel holds no finite number")
        self._mean = np.nanmean(known, (0, 1))
        self._std = np.maximum(np.nanstd(known, (0, 1)), 1e-9)
        self._columns = _Standardised(summaries(self._scaled(series)))

    def _scaled(self, series: np.ndarray) -> np.ndarray:
        filled = np.where(np.isfinite(series), series, self._mean)
        return np.clip((filled - self._mean) / self._std, -20, 20).astype(np.float32)

    def __call__(self, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Summaries float32 ``[n, d]``, and scaled series ``[n, length, channels]``."""
        scaled = self._scaled(series)
        return self._columns(summaries(scaled)), scaled


class ImageView:
    """Scales pictures by the training ones.

    Args:
        images: The training pictures, ``[n, height, width, channels]``.
        seed: Of the principal components, where pictures have more than 256 values.
    """

    def __init__(self, images: np.ndarray, seed: int):
        if not np.isfinite(images).all():
            raise ValueError("images must be finite")
        small = shrink(images)
        self._mean = small.mean((0, 1, 2))
        self._std = np.maximum(small.std((0, 1, 2)), 1e-9)
        flat = self._scaled(small).reshape(len(images), -1)
        self._components = None
        if flat.shape[1] > _MAX_COLUMNS:
            from sklearn.decomposition import PCA

            size = min(_NUM_COMPONENTS, len(images) - 1)
            parts = PCA(size, svd_solver="randomized", random_state=seed).fit(flat)
            self._components = parts
            self._scale = max(float(parts.transform(flat).std()), 1e-9)
        else:
            self._columns = _Standardised(flat)

    def _scaled(self, small: np.ndarray) -> np.ndarray:
        return ((small - self._mean) / self._std).astype(np.float32)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns float32 ``[n, d]``, and scaled pictures, at most 32 pixels wide."""
        scaled = self._scaled(shrink(images))
        flat = scaled.reshape(len(images), -1)
        if self._components is None:
            return self._columns(flat), scaled
        if len(flat) == 0:
            return np.zeros((0, self._components.n_components_), np.float32), scaled
        columns = self._components.transform(flat) / self._scale
        return columns.astype(np.float32), scaled


def shrink(images: np.ndarray) -> np.ndarray:
    """Average blocks of pixels until no side is longer than 32, float32.

    Args:
        images: ``[n, height, width, channels]``; what is left over at the lower and
            right edge is cut off.
    """
    _, height, width, _ = images.shape
    rows, columns = -(-height // _MAX_SIDE), -(-width // _MAX_SIDE)
    kept = images[:, : height // rows * rows, : width // columns * columns]
    n, height, width, channels = kept.shape
    blocks = kept.reshape(n, height // rows, rows, width // columns, columns, channels)
    return blocks.mean((2, 4), dtype=np.float32)


class _Standardised:
    """Standardises columns by training rows, and leaves constant ones out."""

    def __init__(self, columns: np.ndarray):
        self._center, scale = columns.mean(0), columns.std(0)
        self._varies = scale > 1e-6
        if not self._varies.any():
            raise ValueError("x: every column is constant")
        self._scale = np.where(self._varies, scale, 1.0)

    def __call__(self, columns: np.ndarray) -> np.ndarray:
        scaled = (columns - self._center) / self._scale
        return np.clip(scaled[:, self._varies], -20, 20).astype(np.float32)

"""Pictures of bright stripes on noise: their direction and colour can be learned."""

import numpy as np
import pytest

import hardviews
from hardviews.methods import SimSiam
from hardviews.networks import ResNetConfig


def striped(seed: int, number: int, size: int = 16):
    """Pictures uint8 `[N, S, S, 3]` and labels `[N]` of four classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(number) % 4
    line = np.arange(size)
    phase = random.uniform(0, 2 * np.pi, (number, 1, 1))
    along = np.where((labels // 2 == 0)[:, None, None], line[:, None], line)
    waves = 0.5 + 0.4 * np.sin(along * 1.3 + phase)
    images = 0.1 * random.random((number, size, size, 3))
    images[..., 0] += 0.8 * waves * (labels % 2 == 0)[:, None, None]
    images[..., 2] += 0.8 * waves * (labels % 2 == 1)[:, None, None]
    return np.round(255 * images.clip(0, 1)).astype(np.uint8), labels


@pytest.fixture(scope="session")
def pictures() -> hardviews.Pictures:
    return hardviews.make_pictures(*striped(0, 48))


@pytest.fixture(scope="session")
def test_pictures(pictures) -> hardviews.Pictures:
    found = hardviews.make_pictures(*striped(1, 40))
    return found.replace(mean=pictures.mean, std=pictures.std)


@pytest.fixture(scope="session")
def config() -> hardviews.PretrainConfig:
    """Small enough to compile in seconds."""
    return hardviews.PretrainConfig(
        method=SimSiam(8, 4),
        encoder=ResNetConfig(width=4, blocks=(1,)),
        augmentation=hardviews.Crop(),
        view_size=8,
        batch_size=16,
        num_epochs=2,
        learning_rate=0.5,
    )

"""Few-shot episodes: what is drawn, who is right, how it is counted."""

import numpy as np
import pytest

from benchmarks.pictures.few_shot import (
    Args,
    directions,
    play_episode,
    read_pictures,
    summarise,
)

_LABELS = np.repeat(np.arange(5), 30)
_ROWS = [np.flatnonzero(c == _LABELS) for c in range(5)]


def test_an_episode_is_won_by_features_that_tell_classes_apart():
    random = np.random.default_rng(0)
    known = np.eye(5)[_LABELS] + random.normal(0, 0.01, (150, 5))
    views = {"mean": (known, True), "nearest": (known, False)}
    assert play_episode(random, _ROWS, views, 5, 15) == {"mean": 1.0, "nearest": 1.0}


def test_no_picture_is_asked_that_was_shown():
    random = np.random.default_rng(0)
    own = random.normal(size=(150, 200))  # nothing but who one is
    views = {"nearest": (own, False)}
    found = [play_episode(random, _ROWS, views, 15, 15)["nearest"] for _ in range(20)]
    assert 0.12 < np.mean(found) < 0.28


def test_prototypes_are_means():
    # The mean of class 0 lies at 0, its pictures at -3 and 3; class 1 lies at 2.
    x = np.where(np.arange(150) % 2, 3.0, -3.0)[:, None]
    x[_LABELS > 0] = 2.0 + 100.0 * (_LABELS[_LABELS > 0, None] > 1)
    rows = _ROWS[:2]
    views = {"mean": (x, True), "nearest": (x, False)}
    found = play_episode(np.random.default_rng(1), rows, views, 14, 10)
    # those at 3 are nearer to the mean of class 1
    assert found["nearest"] == 1.0 and 0.5 < found["mean"] < 1.0


def test_directions_have_length_one():
    x = np.random.default_rng(0).normal(size=(6, 3))
    found = directions(x, x.mean(0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


def test_the_summary_counts_episodes_and_splits():
    splits = [{"1": {"a": [0.4, 0.6]}}, {"1": {"a": [0.2, 0.4]}}]
    (line,) = summarise(splits)
    assert line["accuracy"] == pytest.approx(0.4)
    assert line["of_splits"] == pytest.approx([0.5, 0.3])
    # within a split the variance is 0.01
    assert line["half_width"] == pytest.approx(1.96 * np.sqrt(0.01 / 4))


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", train_images=np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match=r"missing \['test_images'"):
        read_pictures(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="shots must be 1 or more"):
        Args(tmp_path, shots=(0,))

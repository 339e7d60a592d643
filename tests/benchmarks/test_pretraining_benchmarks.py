"""The pretraining benchmarks at the smallest size; searches on tables made up."""

import dataclasses
import json

import numpy as np
import pytest

import hardviews
from benchmarks.pictures import group_augment, hard_views
from finetune import Tuner


@pytest.fixture
def cifar(tmp_path):
    """A folder like that of CIFAR-10's binary version, of noise."""
    random = np.random.default_rng(0)
    for name, number in (("data_batch_1", 32), ("test_batch", 16)):
        rows = random.integers(0, 256, (number, 3073), np.uint8)
        rows[:, 0] = np.arange(number) % 2
        (tmp_path / f"{name}.bin").write_bytes(rows.tobytes())
    return tmp_path


@pytest.mark.slow  # a whole benchmark
def test_the_papers_scale_runs_and_tells_all_that_was_asked(
    cifar, tmp_path, monkeypatch
):
    """The command's way, with a network and batches that a test can pay."""
    paper = hard_views.SIZES["paper"]
    assert paper.config.encoder == hardviews.RESNET18
    assert (paper.config.batch_size, paper.num_epochs) == (512, 200)
    small = dataclasses.replace(
        paper,
        config=dataclasses.replace(
            paper.config,
            encoder=hardviews.ResNetConfig(4, (1,)),
            augmentation=hardviews.Crop(),
            view_size=8,
            batch_size=16,
        ),
        methods={"SimSiam": hardviews.SimSiam(8, 4)},
        num_seeds=2,
        num_evaluations=1,
    )
    monkeypatch.setitem(hard_views.SIZES, "paper", small)
    args = hard_views.Args(cifar, tmp_path / "run", scale="paper", epochs=1)
    summary = hard_views.run(args)
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    scores = summary["linear_probe"]["SimSiam, hard"]
    assert len(scores["scores"]) == 2 and 0 <= scores["mean"] <= 1
    overlap = summary["overlap"]["SimSiam"]
    assert 0 < overlap["selected"]["mean"] < 1
    longer = summary["seconds"]["SimSiam, random, same time"]["num_epochs"]
    assert longer >= 2, "the same time is at least an epoch more"
    table = (tmp_path / "run" / "table.md").read_text()
    assert "| SimSiam, hard | 1 |" in table and "untrained" in table
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    again = hard_views.run(dataclasses.replace(args, resume=True))
    assert again == summary, "what was measured stays"


def test_classes_are_taken_evenly(cifar):
    train, _ = hardviews.read_pictures(cifar)
    taken = hard_views.take_classes_evenly(train, 10)
    assert np.bincount(np.asarray(taken.labels)).tolist() == [5, 5]


def test_pictures_without_labels_are_told_before_anything_is_trained(tmp_path):
    images = np.zeros((4, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "own.npz", images=images)
    with pytest.raises(ValueError, match="training pictures must have labels"):
        hard_views.run(hard_views.Args(tmp_path / "own.npz", tmp_path / "run"))
    with pytest.raises(ValueError, match="training pictures must have labels"):
        group_augment.run(group_augment.Args(tmp_path / "own.npz", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


# A table of four policies and three epochs; the last policy is the best.
CURVES = {
    "scores": [[0.1, 0.2, 0.3], [0.2, 0.2, 0.25], [0.1, 0.1, 0.1], [0.3, 0.4, 0.5]],
    "seconds": [[1.0] * 3] * 4,
}


def test_random_search_trains_each_draw_to_its_end():
    best = group_augment.play_random(CURVES, np.array([2, 0, 3, 1]))
    wanted = [0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5]
    assert best == wanted
    assert group_augment.epochs_until([best, [0.0] * 12], 0.4) == [8, 12]


def test_the_tuner_plays_on_the_table():
    random = np.random.default_rng(0)
    policies = group_augment.SPACE.sample_distinct(random, 4)
    order = np.array([2, 0, 3, 1])
    tuner = Tuner(
        group_augment.SPACE, candidates=[policies[i] for i in order], num_epochs=3
    )
    best = group_augment.play_tuner(CURVES, tuner, order)
    assert len(best) == 12 and best[-1] == 0.5
    assert best == sorted(best)
    past = group_augment.past_runs(policies, CURVES)
    assert past.num_runs == 4 and past.num_epochs == 3


def test_the_space_is_the_policys_and_no_picture_has_two_uses(cifar):
    names = {h.name for h in group_augment.SPACE.hyperparameters}
    assert names == set(hardviews.GroupAugment.__dataclass_fields__)
    for config in group_augment.SPACE.sample_distinct(np.random.default_rng(1), 20):
        hardviews.GroupAugment.from_config(config)
    sizes = dataclasses.replace(
        group_augment.SIZES["quick"], num_train=10, num_valid=6, num_test=4
    )
    data = group_augment.split(*hardviews.read_pictures(cifar), sizes)
    parts = (data.train, data.valid, data.past, data.past_valid)
    seen = [x.tobytes() for part in parts for x in np.asarray(part.images)]
    assert len(set(seen)) == len(seen) == 32
    with pytest.raises(ValueError, match=r"data must hold 40 .* got 32"):
        sizes = dataclasses.replace(sizes, num_valid=10)
        group_augment.split(*hardviews.read_pictures(cifar), sizes)

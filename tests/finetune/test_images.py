"""An image folder becomes meta-features, a restricted space, and a job."""

import numpy as np
import pytest

import finetune
from finetune.image_folder import read_image_folder
from finetune.images import LEFT_OUT, describe_task

Image = pytest.importorskip("PIL.Image")

KNOWN = ["edgenext_xx_small", "mobilevit_xxs"]


def _write(folder, num, size=(20, 12), mode="RGB"):
    random = np.random.default_rng(0)
    for k, name in enumerate(("cats", "dogs")):
        (folder / name).mkdir(parents=True)
        for i in range(num):
            shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
            pixels = random.integers(0, 100, shape) + 150 * k
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")


def train(epoch, folder, side):
    """A model that sees brightness."""
    images, labels = next(folder.batches(side, 100))
    assert (
        images.shape[1:] == (side, side, 3) and 0 <= images.min() <= images.max() <= 1
    )
    found = (images.mean((1, 2, 3)) > 0.5).astype(int)
    return float((found == labels).mean()) * (1 - 0.5**epoch.number)


def test_folders_in_both_layouts(tmp_path):
    _write(tmp_path / "photos", 10)
    found = read_image_folder(tmp_path / "photos")
    assert found.classes == ("cats", "dogs")
    assert len(found.train) == 16 and len(found.valid) == 4
    assert not set(found.train) & set(found.valid)
    np.testing.assert_array_equal(found.meta_features, [16, 2, 20, 3])
    for name, num in (("train", 5), ("val", 3)):
        _write(tmp_path / "split" / name, num, mode="L")
    found = read_image_folder(tmp_path / "split")
    assert len(found.train) == 10 and len(found.valid) == 6
    np.testing.assert_array_equal(found.meta_features, [10, 2, 20, 1])
    order = np.concatenate([labels for _, labels in found.batches(8, 4, seed=0)])
    assert sorted(order) == [0] * 5 + [1] * 5 and list(order) != sorted(order)


def test_the_shipped_space_is_restricted_to_the_models_of_the_user(tmp_path):
    _write(tmp_path, 4)
    task = describe_task(tmp_path, KNOWN, num_candidates=60)
    assert task.is_known
    candidates = task.settings["candidates"]
    assert len(candidates) == 60
    assert {c["model"] for c in candidates} == set(KNOWN)
    for config in candidates:
        task.settings["surrogates"].space.validate(config)
        for name, allowed in LEFT_OUT.items():
            assert config.get(name) in allowed
    own = describe_task(tmp_path, [*KNOWN, "resnet18"])
    assert not own.is_known and "surrogates" not in own.settings
    with pytest.raises(ValueError, match=r"only: model must be one of .* got 'x'"):
        finetune.draw_candidates(task.settings["surrogates"].space, {"model": ["x"]}, 3)


@pytest.mark.parametrize("models", [KNOWN, ["resnet18"]], ids=["known", "own"])
def test_a_job_on_a_folder(tmp_path, models):
    _write(tmp_path / "photos", 10)
    result = finetune.run(
        tmp_path / "photos",
        models=models,
        minutes=10,
        out=tmp_path / "out",
        train=train,
        side=8,
        num_candidates=3,
        num_epochs=3,
        stop_below=0.3,
        progress=False,
    )
    assert result.score > 0.4 and result.config["model"] in models


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": []}, "models must be a list of names"),
        ({"models": "resnet18"}, "models must be a list of names"),
        ({"minutes": 0}, "minutes must be a number above 0"),
        ({"folder": "nowhere"}, "folder must be a folder of pictures"),
        ({"folder": "empty"}, "must hold two folders or more"),
    ],
)
def test_bad_folders_are_refused(tmp_path, change, message):
    _write(tmp_path / "photos", 3)
    (tmp_path / "empty").mkdir()
    given = {"folder": "photos", "models": KNOWN, "minutes": 1, **change}
    folder = tmp_path / given.pop("folder")
    with pytest.raises(ValueError, match=message):
        finetune.run(folder, out=tmp_path / "out", train=train, **given)
    assert not (tmp_path / "out").exists()

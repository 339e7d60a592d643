"""What comes in is checked before anything compiles; encoders on disk; the commands."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hardviews
from hardviews import __main__ as command
from hardviews.contact_sheet import CHANGES, draw_contact_sheet
from hardviews.networks import RESNET18, ResNet, ResNetConfig
from jaxrl_runs.weight_files import WeightFileError, read_weights, write_weights

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
LABELS = np.arange(12) % 4

BAD_IMAGES = {
    "grey without a channel": (IMAGES[..., 0], "three channels.*grey ones"),
    "grey": (IMAGES[..., :1], "three channels.*grey ones"),
    "with alpha": (np.concatenate([IMAGES, IMAGES[..., :1]], -1), "channels last"),
    "channels first": (IMAGES.transpose(0, 3, 1, 2), "channels last"),
    "not square": (IMAGES[:, :12], "be square, with"),
    "too small": (IMAGES[:, :4, :4], "at least 8 pixels"),
    "one picture": (IMAGES[0], r"be \[N, S, S, 3\], channels"),
    "none": (IMAGES[:0], "one picture or more"),
    "integers": (IMAGES.astype(np.int32), "uint8 in 0..255 or floating point"),
    "255 as float": (IMAGES.astype(np.float32), "divide by 255"),
    "standardised": (IMAGES / 127.5 - 1, "divide by 255"),
    "NaN": (np.full(IMAGES.shape, np.nan, np.float32), "nan to nan"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_pictures_of_a_wrong_kind_are_told(name):
    images, message = BAD_IMAGES[name]
    with pytest.raises(ValueError, match=f"images must .*{message}"):
        hardviews.make_pictures(images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:-1], "one whole number per picture"),
        (LABELS / 2, "one whole number per picture"),
        (LABELS - 1, "at least 0, got -1"),
    ],
)
def test_labels_that_do_not_fit_are_told(labels, message):
    with pytest.raises(ValueError, match=message):
        hardviews.make_pictures(IMAGES, labels)


def test_levels_and_fractions_are_the_same_pictures():
    levels = hardviews.make_pictures(IMAGES, LABELS)
    fractions = hardviews.make_pictures(IMAGES / 255)
    np.testing.assert_array_equal(levels.images, fractions.images)
    scaled = IMAGES.reshape(-1, 3) / 255
    np.testing.assert_allclose(levels.mean, scaled.mean(0), rtol=1e-5)
    np.testing.assert_allclose(levels.std, scaled.std(0), rtol=1e-5)
    assert (levels.size, levels.num_classes, len(levels)) == (16, 4, 12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "batch_size must be an integer of at least 2, got 1"),
        ({"num_views": 1}, "num_views must be an integer of at least 2, got 1"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0, got 0.0"),
        ({"augmentation": hardviews.Crop(scale_low=0.0)}, "Crop.scale_low must be"),
        ({"method": hardviews.SimSiam}, r"write SimSiam\(...\)"),
        ({"encoder": "resnet18"}, "encoder must be a ResNetConfig, got 'resnet18'"),
    ],
)
def test_settings_out_of_range_are_told(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        hardviews.PretrainConfig(**settings)


def test_what_does_not_fit_together_is_told(config, pictures, tmp_path):
    few = pictures.take(range(15))
    with pytest.raises(ValueError, match=r"batch_size must be .* 15, got 16"):
        hardviews.train(config, few)
    unlabelled = pictures.replace(labels=None)
    with pytest.raises(ValueError, match=r"test\[1\] must have labels"):
        hardviews.pretrain(
            tmp_path / "a", config, pictures, test=(pictures, unlabelled)
        )
    encoder = hardviews.random_encoder(jax.random.key(0), config.encoder)
    with pytest.raises(ValueError, match="train must have labels"):
        hardviews.evaluate_encoder(encoder, unlabelled, pictures)
    with pytest.raises(TypeError, match="pictures must be Pictures"):
        hardviews.train(config, IMAGES)
    assert not (tmp_path / "a").exists()


# ------------------------------------------------------------------- encoders


@pytest.fixture(scope="module")
def encoder():
    return hardviews.random_encoder(jax.random.key(0), ResNetConfig(4, (1, 1)))


def test_an_encoder_takes_one_picture_or_any_number_inside_jit_or_not(encoder):
    batch = encoder(IMAGES)
    assert batch.shape == (12, encoder.num_features) == (12, 8)
    np.testing.assert_allclose(encoder(IMAGES[3]), batch[3], rtol=1e-4, atol=1e-6)
    nested = encoder(IMAGES.reshape(3, 4, 16, 16, 3)).reshape(12, -1)
    np.testing.assert_array_equal(nested, batch)
    fractions = encoder(IMAGES / np.float32(255))
    np.testing.assert_allclose(fractions, batch, rtol=1e-5, atol=1e-6)
    jitted = jax.jit(lambda e, x: jax.vmap(e)(x))(encoder, jnp.asarray(IMAGES))
    np.testing.assert_allclose(jitted, batch, rtol=1e-4, atol=1e-6)
    in_parts = encoder.in_batches(IMAGES, batch_size=5)
    np.testing.assert_allclose(in_parts, batch, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="divide by 255"):
        encoder(IMAGES.astype(np.float32))


def test_resnet18_is_the_published_size():
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(
        lambda x: ResNet(RESNET18).init(jax.random.key(0), x, False), x
    )
    number = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert number == 11_173_962 - 5130  # torchvision's in CIFAR form, less its head
    assert RESNET18.num_features == 512


def test_a_damaged_encoder_is_told(encoder, tmp_path):
    path = hardviews.save_encoder(tmp_path / "e.npz", encoder, {"epochs": 3})
    assert hardviews.read_card(path) == {"epochs": 3}
    metadata, arrays = read_weights(path)
    del arrays["mean"]
    write_weights(path, arrays, metadata)
    with pytest.raises(WeightFileError, match="mean is missing"):
        hardviews.load_encoder(path)
    write_weights(path, arrays, {**metadata, "format_version": 99})
    with pytest.raises(WeightFileError, match="format version 99"):
        hardviews.load_encoder(path)
    with pytest.raises(FileNotFoundError):
        hardviews.load_encoder(tmp_path / "none.npz")


def test_neighbours_and_probe_on_features_that_are_plain(key):
    """Clusters are told apart; a rare mirrored feature is not."""
    labels = jnp.arange(60) % 3
    noise = 0.1 * jax.random.normal(key, (60, 3))
    features = jax.nn.one_hot(labels, 3) + noise
    given = features[:40], labels[:40], features[40:], labels[40:], 3
    assert hardviews.knn_accuracy(*given, num_neighbours=5) == 1.0
    assert hardviews.probe_accuracy(*given) == 1.0
    wrong = (features[:40], labels[:40], features[40:], (labels[40:] + 1) % 3, 3)
    assert hardviews.knn_accuracy(*wrong, num_neighbours=99) == 0.0
    assert hardviews.probe_accuracy(*wrong) == 0.0


# ---------------------------------------------------------------------- files


def write_npz(path, **changed):
    arrays = {
        "train_images": IMAGES,
        "test_images": IMAGES[:4],
        "train_labels": LABELS.astype(np.uint8),
        "test_labels": LABELS[:4].astype(np.uint8),
    }
    arrays |= changed
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_files_are_read_and_what_is_wrong_in_them_is_told(tmp_path):
    path = write_npz(tmp_path / "pictures.npz")
    train, test = hardviews.read_pictures(tmp_path)
    np.testing.assert_array_equal(train.images, IMAGES)
    np.testing.assert_array_equal(test.mean, train.mean)
    write_npz(path, test_images=None)
    with pytest.raises(ValueError, match=r"pictures\.npz: test_images is missing"):
        hardviews.read_pictures(path)
    write_npz(path, train_images=IMAGES[..., 0])
    with pytest.raises(ValueError, match=r"pictures\.npz: images must have three"):
        hardviews.read_pictures(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="found 0 npz files"):
        hardviews.read_pictures(tmp_path)


def test_the_binary_version_of_cifar10_is_read(tmp_path):
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (5, 3073), np.uint8)
    rows[:, 0] = [3, 1, 0, 2, 9]
    (tmp_path / "data_batch_1.bin").write_bytes(rows[:3].tobytes())
    (tmp_path / "data_batch_2.bin").write_bytes(rows[3:4].tobytes())
    (tmp_path / "test_batch.bin").write_bytes(rows[4:].tobytes())
    train, test = hardviews.read_pictures(tmp_path)
    assert train.labels.tolist() == [3, 1, 0, 2] and test.labels.tolist() == [9]
    red = np.asarray(train.images)[1, 4, :, 0]  # the second picture's fifth line
    np.testing.assert_array_equal(red, rows[1, 1 + 4 * 32 : 1 + 5 * 32])
    (tmp_path / "test_batch.bin").write_bytes(rows[4:].tobytes()[:-1])
    with pytest.raises(ValueError, match="rows of 3073 bytes"):
        hardviews.read_pictures(tmp_path)


def test_commands_draw_and_train(tmp_path, monkeypatch, capsys):
    path = write_npz(tmp_path / "pictures.npz")
    sheet = tmp_path / "sheet.png"
    monkeypatch.setattr("hardviews.contact_sheet.CHANGES", dict([*CHANGES.items()][:3]))
    given = ["sheet", "--data", str(path), "--out", str(sheet), "--pictures", "2"]
    monkeypatch.setattr(sys, "argv", ["hardviews", *given])
    command.main()
    assert sheet.stat().st_size > 1000
    given = ["pretrain", "--data", str(path), "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["hardviews", *given])
    with pytest.raises(SystemExit):
        command.main()
    assert "batch_size must be at most" in capsys.readouterr().err


def test_a_sheet_of_grey_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="three channels"):
        draw_contact_sheet(tmp_path / "sheet.png", IMAGES[..., 0])

"""What users bring along: pictures in files, labels, methods, losses, augmentations."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from PIL import Image

import hardviews
from hardviews import color, geometry, quality, training
from hardviews.networks import Projector
from hardviews.population import stack
from hardviews.selection import pair_losses
from hardviews.training import make_views, start, train_epoch
from jaxrl_runs.weight_files import WeightFileError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
LABELS = np.arange(12) % 3

# --------------------------------------------------------------------- accuracies

FEATURES = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)
BAD_FEATURES = {
    "fewer labels": ((FEATURES, LABELS[:10], FEATURES, LABELS, 3), r"train_labels.*12"),
    "fewer test labels": ((FEATURES, LABELS, FEATURES, LABELS[:5], 3), r"^labels.*12"),
    "more test labels": ((FEATURES, LABELS, FEATURES[:5], LABELS, 3), r"^labels.*5"),
    "too few classes": ((FEATURES, LABELS, FEATURES, LABELS, 2), "at most 1, for num"),
    "widths": ((FEATURES, LABELS, FEATURES[:, :3], LABELS, 3), "as wide as train_"),
    "NaN": ((FEATURES * np.nan, LABELS, FEATURES, LABELS, 3), "must be finite"),
    "one-hot": ((FEATURES, np.eye(3)[LABELS], FEATURES, LABELS, 3), "argmax"),
    "no number": ((FEATURES, LABELS, FEATURES, LABELS, 3.0), "num_classes must be"),
    "pictures": ((IMAGES, LABELS, FEATURES, LABELS, 3), r"\[pictures, features\]"),
}


@pytest.mark.parametrize("name", BAD_FEATURES)
@pytest.mark.parametrize("accuracy", [hardviews.knn_accuracy, hardviews.probe_accuracy])
def test_features_and_labels_that_do_not_fit_give_no_number(accuracy, name):
    given, message = BAD_FEATURES[name]
    with pytest.raises(ValueError, match=message):
        accuracy(*given)


def test_accuracies_take_lists_of_labels():
    given = FEATURES, LABELS.tolist(), FEATURES.tolist(), LABELS.tolist(), 3
    assert hardviews.knn_accuracy(*given, num_neighbours=1) == 1.0


BAD_LABELS = {
    "beyond int32": (LABELS + 2**40, "at most"),
    "names": (np.array(["a", "b", "c"] * 4), "return_inverse"),
    "a column": (LABELS[:, None], r"labels\[:, 0\]"),
    "ragged": ([[1], [1, 2]], "one whole number per picture"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_are_none_are_told(name):
    labels, message = BAD_LABELS[name]
    with pytest.raises(ValueError, match=message):
        hardviews.make_pictures(IMAGES, labels)


def test_pictures_whose_arrays_were_replaced_are_looked_at(config, pictures, tmp_path):
    short = pictures.replace(labels=pictures.labels[:10])
    encoder = hardviews.random_encoder(0, config.encoder)
    with pytest.raises(ValueError, match=r"train\.labels must be one whole"):
        hardviews.evaluate_encoder(encoder, short, pictures)
    with pytest.raises(ValueError, match=r"test\[0\]\.labels"):
        hardviews.pretrain(tmp_path / "a", config, pictures, test=(short, pictures))
    floats = pictures.replace(images=pictures.images / 255)
    with pytest.raises(ValueError, match=r"pictures\.images must be uint8"):
        hardviews.train(config, floats)
    with pytest.raises(TypeError, match="a tuple of 2; read_pictures gives") as error:
        hardviews.pretrain(tmp_path / "a", config, (pictures, pictures))
    assert len(str(error.value)) < 200, "no pixels"
    with pytest.raises(TypeError, match="augmentations must be a list"):
        hardviews.train_population(config, hardviews.Crop(), pictures, score=len)
    for rows in ([48], [-49], [0.5], np.ones(3, bool), []):
        with pytest.raises(ValueError, match="rows must"):
            pictures.take(rows)
    assert len(pictures.take(np.arange(48) < 5)) == 5


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([IMAGES[0], IMAGES[1][:9, :9]], "of 2 of several shapes"),
        (IMAGES.astype(np.int64), r"astype\(np.uint8\)"),
        (IMAGES.astype(np.int64) + 1, "values from 1 to 256"),
        (IMAGES[0, ..., 0], r"\[\.\.\., None\]"),
        (IMAGES.transpose(0, 3, 1, 2), "moveaxis"),
        (IMAGES[:0], "got none"),
        (hardviews.make_pictures(IMAGES), r"write pictures\.images"),
        (None, "array of numbers"),
    ],
)
def test_an_encoder_says_what_to_do_with_other_pictures(images, message, config):
    encoder = hardviews.random_encoder(0, config.encoder)
    with pytest.raises(ValueError, match=f"images must .*{message}"):
        encoder(images)


# -------------------------------------------------------------------------- files


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_a_folder_of_classes_is_read_as_it_says(tmp_path):
    for row in range(12):
        part = "train" if row < 8 else "test"
        save(tmp_path / part / "cab"[LABELS[row]] / f"{row:02d}.png", IMAGES[row])
    train, test = hardviews.read_pictures(tmp_path)
    assert train.labels.tolist() == [0] * 3 + [1] * 2 + [2] * 3  # a, b, c
    np.testing.assert_array_equal(train.images[3], IMAGES[2])
    np.testing.assert_array_equal(test.images[0], IMAGES[10])
    np.testing.assert_array_equal(test.mean, train.mean)
    save(tmp_path / "test" / "d" / "0.png", IMAGES[0])
    with pytest.raises(ValueError, match=r"classes without training: \['d'\]"):
        hardviews.read_pictures(tmp_path)


def test_a_folder_is_split_by_a_seed_within_classes(tmp_path):
    for row in range(12):
        save(tmp_path / "abc"[LABELS[row]] / f"{row}.png", IMAGES[row])
    train, test = hardviews.read_pictures(tmp_path, test_share=0.25)
    assert np.bincount(test.labels).tolist() == [1, 1, 1]
    seen = [x.tobytes() for part in (train, test) for x in np.asarray(part.images)]
    assert sorted(seen) == sorted(image.tobytes() for image in IMAGES)
    again, _ = hardviews.read_pictures(tmp_path, test_share=0.25)
    np.testing.assert_array_equal(again.images, train.images)
    others = [hardviews.read_pictures(tmp_path, seed=seed)[1] for seed in range(4)]
    assert len({np.asarray(other.images).tobytes() for other in others}) > 1


def test_pictures_of_several_sides_are_resized_or_told(tmp_path):
    for row, side in enumerate((16, 16, 12)):
        save(tmp_path / f"{row}.png", IMAGES[row, :side, :side])
    with pytest.raises(ValueError, match=r"2\.png: 12 pixels.*size=32"):
        hardviews.read_pictures(tmp_path)
    train, _ = hardviews.read_pictures(tmp_path, size=8)
    assert train.images.shape == (2, 8, 8, 3) and train.labels is None
    save(tmp_path / "2.png", IMAGES[2])
    save(tmp_path / "3.png", IMAGES[0, :9])
    with pytest.raises(ValueError, match=r"3\.png: 16 x 9 pixels is not square"):
        hardviews.read_pictures(tmp_path)
    save(tmp_path / "3.png", IMAGES[0, ..., 0].astype(np.uint16))
    with pytest.raises(ValueError, match=r"3\.png: has levels of mode"):
        hardviews.read_pictures(tmp_path)
    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"3\.png: cannot be read as a picture"):
        hardviews.read_pictures(tmp_path)
    save(tmp_path / "a" / "4.png", IMAGES[0])
    with pytest.raises(ValueError, match="beside folders of classes"):
        hardviews.read_pictures(tmp_path)


def test_grey_files_get_three_channels(tmp_path):
    for row in range(2):
        save(tmp_path / f"{row}.png", IMAGES[row, ..., 0])
    train, _ = hardviews.read_pictures(tmp_path)
    assert train.images.shape == (1, 16, 16, 3)
    np.testing.assert_array_equal(train.images[..., 0], train.images[..., 2])


def test_an_npz_of_images_and_labels_is_split(tmp_path):
    np.savez(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    train, test = hardviews.read_pictures(tmp_path / "own.npz", test_share=0.5)
    assert np.bincount(test.labels).tolist() == [2, 2, 2] and len(train) == 6
    for image, label in zip(np.asarray(test.images), test.labels, strict=True):
        row = next(i for i in range(12) if np.array_equal(IMAGES[i], image))
        assert LABELS[row] == label
    np.savez(tmp_path / "own.npz", x_train=IMAGES, y_train=LABELS)
    with pytest.raises(ValueError, match="found the arrays x_train, y_train"):
        hardviews.read_pictures(tmp_path / "own.npz")
    np.savez(tmp_path / "own.npz", images=IMAGES, labels=np.arange(12))
    with pytest.raises(ValueError, match="a class of two pictures or more"):
        hardviews.read_pictures(tmp_path / "own.npz")
    parts = {"train_images": IMAGES, "test_images": IMAGES, "train_labels": LABELS}
    np.savez(tmp_path / "own.npz", **parts)
    with pytest.raises(ValueError, match="train_labels is there, test_labels is miss"):
        hardviews.read_pictures(tmp_path / "own.npz")
    np.savez(tmp_path / "own.npz", images=IMAGES)
    with pytest.raises(ValueError, match="size must be None"):
        hardviews.read_pictures(tmp_path / "own.npz", size=16)


def test_other_files_are_told_what_is_read(tmp_path):
    np.save(tmp_path / "own.npy", IMAGES)
    with pytest.raises(ValueError, match=r"a \.npy file; read are an npz file with"):
        hardviews.read_pictures(tmp_path / "own.npy")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        hardviews.read_pictures(tmp_path / "none")
    with pytest.raises(TypeError, match="path must be a path"):
        hardviews.read_pictures(None)
    with pytest.raises(ValueError, match="test_share must be"):
        hardviews.read_pictures(tmp_path, test_share=1.0)


def test_an_encoder_that_is_not_there_is_told(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        hardviews.load_encoder(tmp_path / "none")
    with pytest.raises(TypeError, match="path must be a path"):
        hardviews.load_encoder(None)
    with pytest.raises(FileNotFoundError, match=r"holds no encoder\.npz"):
        hardviews.load_encoder(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has not ended.*resume=True"):
        hardviews.load_encoder(tmp_path)
    np.savez(tmp_path / "pictures.npz", train_images=IMAGES)
    with pytest.raises(WeightFileError, match="read_pictures reads pictures"):
        hardviews.load_encoder(tmp_path / "pictures.npz")
    encoder = hardviews.random_encoder(0, config.encoder)
    card = {"score": np.float32(0.5), "rows": np.arange(2), "path": [np.int64(3)]}
    path = hardviews.save_encoder(tmp_path / "e.npz", encoder, card)
    assert hardviews.read_card(path) == {"score": 0.5, "rows": [0, 1], "path": [3]}
    with pytest.raises(ValueError, match="load_encoder reads it"):
        hardviews.read_pictures(path)


# ------------------------------------------------------------------------ methods


@dataclasses.dataclass(frozen=True)
class Own:
    """Two heads of different widths, side by side."""

    target_rate = None

    def heads(self, config):
        return {"small": Projector((3,)), "large": Projector((7, 5))}

    def outputs(self, apply, views):
        x = apply("encoder", views)
        return {"small": apply("small", x), "large": apply("large", x)}

    def pair_loss(self, first, second):
        return sum(
            jnp.mean(jnp.square(first[name] - second[name]), -1) for name in first
        )


def test_heads_may_stand_side_by_side(config):
    config = dataclasses.replace(config, method=Own())
    params = start(config, 10).weights.params
    assert params["small"]["Dense_0"]["kernel"].shape == (4, 3)
    assert params["large"]["Dense_0"]["kernel"].shape == (4, 7)


def changed(**members):
    return dataclasses.dataclass(frozen=True)(type("Changed", (Own,), members))()


BAD_METHODS = {
    "misspelt": (
        {"outputs": lambda self, apply, views: apply("smal", apply("encoder", views))},
        "one of 'encoder', 'small', 'large', got 'smal'",
    ),
    "left out": (
        {"outputs": lambda self, apply, views: {"x": apply("encoder", views)}},
        "never applies 'small', 'large'",
    ),
    "no copy": (
        {"outputs": lambda self, apply, x: apply("encoder", x, target=True)},
        "whose target_rate is None",
    ),
    "one argument": (
        {"heads": lambda self, config: {"small": nn.Dense(3)}},
        r"heads\['small'\] must be called \(x, train\), got a Dense",
    ),
    "a list": ({"heads": lambda self, config: [Projector((3,))]}, "a dictionary"),
    "scalar": (
        {"pair_loss": lambda self, a, b: jnp.mean(a["small"] - b["small"])},
        r"one loss per picture.*\(2,\), got shape \(\)",
    ),
    "a matrix": (
        {"pair_loss": lambda self, a, b: a["small"] @ b["small"].T},
        r"shape \(2,\), got shape \(2, 2\)",
    ),
    "whole": (
        {"pair_loss": lambda self, a, b: jnp.argmax(a["small"], -1)},
        "floating point of shape .* got int32",
    ),
}


@pytest.mark.parametrize("name", BAD_METHODS)
def test_a_method_that_does_not_fit_together_is_told(name, config):
    members, message = BAD_METHODS[name]
    config = dataclasses.replace(config, method=changed(**members))
    with pytest.raises(ValueError, match=message):
        start(config, 10)


def test_what_a_method_lacks_is_told_at_construction():
    class Bare:
        heads = outputs = pair_loss = lambda self: None

    with pytest.raises(ValueError, match="without target_rate; without a slow copy"):
        hardviews.PretrainConfig(method=Bare())
    with pytest.raises(ValueError, match="target_rate must be a number above 0"):
        hardviews.PretrainConfig(method=changed(target_rate=2.0))

    class Mutable(Own):
        __hash__ = None

    with pytest.raises(TypeError, match="frozen dataclass"):
        hardviews.PretrainConfig(method=Mutable())


def square(a, b):
    return jnp.sum(jnp.square(a - b), -1)


@pytest.mark.parametrize("num_views", [2, 3])
def test_a_loss_of_another_shape_is_told(num_views):
    outputs = np.zeros((num_views, 5, 4))
    with pytest.raises(ValueError, match=r"shape \(5,\), got shape \(\)"):
        hardviews.hardest_pairs(lambda a, b: jnp.sum(a - b), outputs)
    with pytest.raises(ValueError, match=r"shape \(5,\), got shape \(5, 5\)"):
        hardviews.hardest_pairs(lambda a, b: a @ b.T, outputs)
    with pytest.raises(TypeError, match="pair_loss must be a function"):
        hardviews.hardest_pairs(None, outputs)
    with pytest.raises(ValueError, match=r"leaves \[batch, \.\.\.\]"):
        pair_losses(square, {"a": np.zeros((5, 2)), "b": np.zeros(4)}, None)


def test_views_that_are_not_those_of_the_choice_are_told():
    outputs = np.random.default_rng(0).normal(size=(4, 5, 3))
    pairs = hardviews.hardest_pairs(square, outputs)
    assert pairs.take(outputs).shape == (2, 5, 3)
    for views in (outputs[:3], outputs[:, :4], outputs[0, :, 0]):
        with pytest.raises(ValueError, match=r"\(4, 5\) as when the pairs were chosen"):
            pairs.take(views)
    with pytest.raises(ValueError, match=r"jnp\.stack\(views\)"):
        pairs.take(list(outputs))
    with pytest.raises(ValueError, match=r"jnp\.stack\(views\)"):
        hardviews.hardest_pairs(square, list(outputs))


# ------------------------------------------------------------------ augmentations


@struct.dataclass
class NoBox:
    def __call__(self, key, image, size):
        return image[:size, :size]


@struct.dataclass
class OtherSide:
    def __call__(self, key, image, size):
        return image, jnp.zeros(4)


@struct.dataclass
class Levels:
    def __call__(self, key, image, size):
        return (255 * image[:size, :size]).astype(jnp.uint8), jnp.zeros(4)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (NoBox(), "NoBox must return a view .* one value; without a crop"),
        (OtherSide(), r"got one of shape \(16, 16, 3\) for \(8, 8, 3\)"),
        (Levels(), r"floating point in \[0, 1\], got uint8"),
    ],
)
def test_what_an_augmentation_returns_is_looked_at(
    augmentation, message, config, pictures, tmp_path
):
    config = dataclasses.replace(config, augmentation=augmentation)
    with pytest.raises(ValueError, match=message):
        make_views(config, augmentation, pictures, np.arange(2), 0)
    with pytest.raises(ValueError, match=message):
        hardviews.pretrain(tmp_path / "a", config, pictures)
    assert not (tmp_path / "a").exists()


ALL = (
    hardviews.Crop(),
    hardviews.CropAndJitter(),
    hardviews.TrivialAugment(),
    hardviews.RandAugment(),
    hardviews.GroupAugment(),
)


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0, IMAGES, 8), r"one picture \[S, S, 3\].*jax\.vmap"),
        ((0, IMAGES[0, ..., 0], 8), "three channels"),
        ((0, IMAGES[0], 7), "size must be an integer of at least 8"),
        ((-1, IMAGES[0], 8), "key must be a seed"),
    ],
)
def test_what_an_augmentation_is_given_is_looked_at(augmentation, given, message):
    with pytest.raises(ValueError, match=message):
        augmentation(*given)


def test_a_number_is_a_seed_and_levels_are_fractions(config):
    key, image = jax.random.key(3), jnp.asarray(IMAGES[0])
    fractions = image / 255
    crop = jax.jit(lambda image, key: hardviews.Crop()(key, image, 16))
    view, box = jax.jit(lambda image: hardviews.Crop()(3, image, 16))(image)
    wanted, same_box = crop(fractions, key)
    np.testing.assert_allclose(view, wanted, atol=1e-6)
    np.testing.assert_array_equal(box, same_box)
    assert jax.tree.all(
        jax.tree.map(
            lambda a, b: bool(jnp.all(a == b)),
            hardviews.random_encoder(3, config.encoder).params,
            hardviews.random_encoder(key, config.encoder).params,
        )
    )
    where = geometry.coordinates(16)
    policy = hardviews.GroupAugment(p_color=0.5)
    functions = (
        (lambda k, p: jnp.stack(list(p.draw(k).values())), policy),
        (geometry.random_box, 16),
        (geometry.shift_scale_rotate, where),
        (geometry.elastic, where),
        (geometry.grid_distortion, where),
        (geometry.optical_distortion, where),
        (color.color_jitter, fractions),
        (color.shuffle_channels, fractions),
        (lambda k, x: quality.gaussian_noise(k, x, 0.1), fractions),
        (quality.grid_shuffle, fractions),
        (quality.cut_out, fractions),
    )
    both = jax.jit(lambda key: [(f(3, x), f(key, x)) for f, x in functions])(key)
    for of_seed, of_key in both:
        np.testing.assert_allclose(of_seed, of_key, atol=1e-5)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (hardviews.Crop(0.9, 0.1), "scale_low must be at most scale_high, 0.1, got"),
        (hardviews.CropAndJitter(scale_low=0.5, scale_high=0.4), "scale_low must be"),
        (hardviews.CropAndJitter(brightness=-1.0), "brightness must be .* got -1.0"),
        (hardviews.GroupAugment(p_color=2.0), "p_color must be"),
    ],
)
def test_strengths_are_compared_wherever_they_come_in(augmentation, message):
    for use in (
        lambda: augmentation(0, IMAGES[0], 8),
        lambda: hardviews.PretrainConfig(augmentation=augmentation),
        lambda: stack([augmentation]),
    ):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize("size", [9, 10, 15, 30])
def test_cells_of_any_side_are_exchanged(size):
    image = jnp.arange(3.0 * size * size).reshape(size, size, 3)
    shuffled = np.asarray(quality.grid_shuffle(0, image))
    side = -(-size // 4)
    padding = ((0, 4 * side - size),) * 2 + ((0, 0),)
    padded = np.pad(np.asarray(image), padding, "edge")
    cells = [
        padded[i * side : (i + 1) * side, j * side : (j + 1) * side]
        for i in range(4)
        for j in range(4)
    ]
    assert shuffled.shape == (size, size, 3)
    whole = size // side  # cells that do not reach beyond the side
    for i in range(whole):
        for j in range(whole):
            found = shuffled[i * side : (i + 1) * side, j * side : (j + 1) * side]
            assert any(np.array_equal(found, cell) for cell in cells)
    assert not np.array_equal(shuffled, image)


def test_group_augment_takes_any_side():
    policy = hardviews.GroupAugment(p_exotic=1.0, n_exotic=2, n_total=5)
    shape = jax.eval_shape(lambda x: policy(0, x, 30)[0], jnp.asarray(IMAGES[0]))
    assert shape.shape == (30, 30, 3)


def test_the_space_of_group_augment_is_what_its_numbers_may_be():
    space = hardviews.GroupAugment.space()
    assert set(space) == set(hardviews.GroupAugment.__dataclass_fields__)
    for name, values in space.items():
        for value in values:
            hardviews.GroupAugment.from_config({name: value})
        if name.startswith("n_"):
            with pytest.raises(ValueError, match=name):
                hardviews.GroupAugment.from_config({name: values[-1] + 1})
    assert space["n_color"] == (1, 2, 3, 4, 5) and space["n_total"] == (1, 2, 3, 4, 5)


def test_whole_numbers_and_fractions_share_a_program(config, pictures):
    """2 or 2.0, the strengths are leaves of one type."""
    state, key = start(config, 3), jax.random.key(0)
    number = training._take_steps._cache_size()
    found = []
    for one in (1, 1.0, np.float32(1.0)):
        crop = hardviews.Crop(scale_low=0.5, scale_high=one)
        found.append(train_epoch(config, 3, state, pictures, crop, key)[1]["loss"])
    assert training._take_steps._cache_size() <= number + 1
    np.testing.assert_array_equal(found[0], found[1])


def test_evaluations_are_counted_from_one(config, pictures, tmp_path):
    test = pictures, pictures
    with pytest.raises(ValueError, match="evaluate_every must be an integer of at"):
        hardviews.pretrain(tmp_path, config, pictures, test=test, evaluate_every=0)
    with pytest.raises(ValueError, match="evaluate_every needs test"):
        hardviews.pretrain(tmp_path, config, pictures, evaluate_every=1)

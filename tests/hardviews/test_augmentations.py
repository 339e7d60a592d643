"""Augmentations mean what PIL's and scipy's operations mean, on fixed pictures."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter, map_coordinates

import hardviews
from hardviews import augmentations, color, geometry, quality
from hardviews.group_augment import GROUPS, GroupAugment

SIZE = 32


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    """A smooth picture with noise on it, uint8, of fewer than 256 levels."""
    random = np.random.default_rng(0)
    line = np.linspace(0, 3, SIZE)
    waves = [np.sin(a * line[:, None] + b * line) for a, b in ((1, 2), (3, 1), (2, 2))]
    smooth = 0.5 + 0.35 * np.stack(waves, -1)
    noisy = smooth + 0.05 * random.normal(size=(SIZE, SIZE, 3))
    return np.round(np.clip(noisy, 0.03, 0.97) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def image(levels) -> jax.Array:
    return jnp.asarray(levels, jnp.float32) / 255


def differ(ours, theirs) -> float:
    """Largest difference, in levels of 256."""
    theirs = np.asarray(theirs, np.float64)
    return float(np.abs(255 * np.asarray(ours, np.float64) - theirs).max())


PIL_OPERATIONS = {
    "grey": (color.grey, lambda p: p.convert("L").convert("RGB"), 0.6),
    "brightness": (
        lambda x: color.adjust_brightness(x, 1.4),
        lambda p: ImageEnhance.Brightness(p).enhance(1.4),
        1.01,
    ),
    "contrast": (
        lambda x: color.adjust_contrast(x, 0.6),
        lambda p: ImageEnhance.Contrast(p).enhance(0.6),
        1.5,
    ),
    "saturation": (
        lambda x: color.adjust_saturation(x, 1.5),
        lambda p: ImageEnhance.Color(p).enhance(1.5),
        1.5,
    ),
    "sharpness": (
        lambda x: quality.sharpen(x, 1.8),
        lambda p: ImageEnhance.Sharpness(p).enhance(1.8),
        1.6,
    ),
    "solarise": (
        lambda x: color.solarise(x, 128 / 255),
        lambda p: ImageOps.solarize(p, 128),
        1e-3,
    ),
    "posterise": (
        lambda x: color.posterise(x, 3),
        lambda p: ImageOps.posterize(p, 3),
        1e-3,
    ),
    "equalise": (color.equalise, ImageOps.equalize, 1e-3),
    "autocontrast": (color.autocontrast, ImageOps.autocontrast, 1.01),
    "flip": (
        lambda x: geometry.sample(x, geometry.flip(geometry.coordinates(SIZE))),
        ImageOps.mirror,
        1e-3,
    ),
}


@pytest.mark.parametrize("name", PIL_OPERATIONS)
def test_operations_are_those_of_pil(name, levels, image):
    ours, theirs, tolerance = PIL_OPERATIONS[name]
    assert differ(ours(image), theirs(Image.fromarray(levels))) < tolerance
    assert differ(ours(image), levels) > 5, "it changes something"


def test_equalise_leaves_a_plain_picture_as_it_is():
    plain = jnp.full((SIZE, SIZE, 3), 77 / 255)
    np.testing.assert_allclose(color.equalise(plain), plain, atol=1e-6)
    np.testing.assert_allclose(color.autocontrast(plain), plain, atol=1e-6)


def test_a_crop_is_pils_crop_and_resize(levels, image):
    box = (5, 9, 14, 11)  # top, left, height, width
    top, left, height, width = box
    crop = Image.fromarray(levels).crop((left, top, left + width, top + height))
    theirs = crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    where = geometry.through_box(geometry.coordinates(SIZE), jnp.array(box, float))
    assert differ(geometry.sample(image, where), theirs) < 1.1


def test_a_rotation_is_pils_inside_the_picture(levels, image):
    turned = Image.fromarray(levels).rotate(20, Image.Resampling.BILINEAR)
    matrix = geometry.rotation(jnp.deg2rad(20.0))
    where = geometry.affine(geometry.coordinates(SIZE), matrix, jnp.zeros(2))
    inner = slice(8, 24)
    ours = geometry.sample(image, where)[inner, inner]
    assert differ(ours, np.asarray(turned)[inner, inner]) < 2


def test_hues_turn_as_those_of_colorsys(image):
    turned = np.asarray(color.adjust_hue(image, 0.3))
    for row, column in ((0, 0), (7, 21), (30, 3)):
        hue, saturation, value = colorsys.rgb_to_hsv(*map(float, image[row, column]))
        wanted = colorsys.hsv_to_rgb((hue + 0.3) % 1, saturation, value)
        np.testing.assert_allclose(turned[row, column], wanted, atol=1e-5)


def test_blur_is_scipys(image, levels):
    ours = quality.gaussian_blur(image, 1.2)
    theirs = gaussian_filter(np.asarray(image), (1.2, 1.2, 0), mode="mirror", radius=3)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    pil = Image.fromarray(levels).filter(ImageFilter.GaussianBlur(1.2))
    inner = slice(6, -6)  # PIL's is an approximation by boxes
    assert differ(ours[inner, inner], np.asarray(pil)[inner, inner]) < 6
    np.testing.assert_allclose(quality.gaussian_blur(image, 0.0), image, atol=1e-6)


@pytest.mark.parametrize(
    "change", [geometry.elastic, geometry.grid_distortion, geometry.optical_distortion]
)
def test_a_distortion_reads_the_picture_where_it_says(change, image, key):
    where = change(key, geometry.coordinates(SIZE))
    assert float(jnp.abs(where - geometry.coordinates(SIZE)).max()) > 0.3
    assert float(where.min()) >= 0 and float(where.max()) <= SIZE - 1
    rows_columns = np.moveaxis(np.asarray(where), -1, 0)
    theirs = [
        map_coordinates(np.asarray(image[..., c]), rows_columns, order=1)
        for c in range(3)
    ]
    np.testing.assert_allclose(
        geometry.sample(image, where), np.stack(theirs, -1), atol=1e-5
    )


@pytest.mark.parametrize(
    "change", [geometry.elastic, geometry.grid_distortion, geometry.optical_distortion]
)
def test_a_distortion_of_no_strength_changes_nothing(change, key):
    where = geometry.coordinates(SIZE)
    strengths = (0.0, 4.0) if change is geometry.elastic else (0.0,)
    if change is geometry.optical_distortion:
        strengths = (0.0, 0.0)
    np.testing.assert_allclose(change(key, where, *strengths), where, atol=1e-4)


def test_shift_scale_rotate_of_no_strength_changes_nothing(key):
    where = geometry.coordinates(SIZE)
    moved = geometry.shift_scale_rotate(key, where, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(moved, where, atol=1e-4)


def test_boxes_are_whole_inside_and_of_the_areas_asked_for(key):
    boxes = jax.jit(jax.vmap(lambda k: geometry.random_box(k, SIZE, 0.2, 0.6)))(
        jax.random.split(key, 2000)
    )
    top, left, height, width = np.asarray(boxes).T
    assert (np.asarray(boxes) == np.round(boxes)).all()
    assert min(top.min(), left.min()) == 0
    assert (top + height).max() == SIZE and (left + width).max() == SIZE
    area = height * width / SIZE**2
    assert area.min() > 0.17 and area.max() < 0.65
    assert abs(area.mean() - 0.4) < 0.02
    assert (width / height).max() < 1.45 and (width / height).min() > 0.69


def test_overlap_is_intersection_over_union():
    boxes = jnp.array([[0, 0, 10, 10], [5, 5, 10, 10], [20, 20, 4, 4]], float)
    found = geometry.overlap(boxes[0], boxes)
    np.testing.assert_allclose(found, [1.0, 25 / 175, 0.0], atol=1e-6)


def test_cells_channels_and_holes_are_moved_not_changed(image, key):
    shuffled = np.asarray(quality.grid_shuffle(key, image))
    side = SIZE // quality.NUM_CELLS

    def cells(picture):
        parts = np.asarray(picture).reshape(4, side, 4, side, 3).swapaxes(1, 2)
        return sorted(part.tobytes() for part in parts.reshape(16, -1))

    assert cells(shuffled) == cells(image)
    assert not np.array_equal(shuffled, image)
    channels = np.asarray(color.shuffle_channels(jax.random.key(1), image))
    assert {c.tobytes() for c in np.moveaxis(channels, -1, 0).copy()} == {
        c.tobytes() for c in np.moveaxis(np.asarray(image), -1, 0).copy()
    }
    holes = np.asarray(quality.cut_out(key, image, 0.25))
    is_hole = (holes == 0).all(-1)
    assert 0 < is_hole.mean() <= 4 / 16
    np.testing.assert_array_equal(holes[~is_hole], np.asarray(image)[~is_hole])


def test_jitter_is_its_four_changes_in_some_order(image):
    """Without three of the strengths, the fourth is what is left."""
    key = jax.random.key(3)
    draw = jax.random.uniform(key, (8,))
    only = color.color_jitter(key, image, 0.0, 0.4, 0.0, 0.0)
    wanted = color.adjust_contrast(image, 0.6 + 0.8 * draw[1])
    np.testing.assert_allclose(only, wanted, atol=1e-5)
    only = color.color_jitter(key, image, 0.0, 0.0, 0.0, 0.1)
    wanted = color.adjust_hue(image, 0.1 * (2 * draw[3] - 1))
    np.testing.assert_allclose(only, wanted, atol=1e-5)


@pytest.mark.parametrize("place", range(len(augmentations.OPERATIONS)))
def test_every_operation_of_trivial_augment_acts_and_stays_in_range(place, image):
    name = augmentations.OPERATIONS[place]
    changed = _operation(image, place, 0.7)
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    is_same = bool(jnp.allclose(changed, image, atol=1e-5))
    assert is_same == (name == "identity"), name


_operation = jax.jit(augmentations.apply_operation)


def test_a_translation_moves_by_its_share(image):
    place = augmentations.OPERATIONS.index("translate_x")
    moved = np.asarray(_operation(image, place, 0.25))
    np.testing.assert_allclose(moved[:, :24], np.asarray(image)[:, 8:], atol=1e-5)
    assert (moved[:, 24:] == 0).all()


AUGMENTATIONS = (
    hardviews.Crop(),
    hardviews.CropAndJitter(blur=0.5, solarise=0.2),
    hardviews.TrivialAugment(),
    hardviews.RandAugment(),
    GroupAugment(p_non_rigid=1.0, p_quality=1.0, p_exotic=1.0, n_total=5),
)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda a: type(a).__name__)
def test_views_are_pictures_and_follow_from_the_key(augmentation, image, key):
    make = jax.jit(jax.vmap(lambda a, k: a(k, image, 16), in_axes=(None, 0)))
    views, boxes = make(augmentation, jax.random.split(key, 8))
    assert views.shape == (8, 16, 16, 3) and boxes.shape == (8, 4)
    assert views.dtype == boxes.dtype == jnp.float32
    assert float(views.min()) >= 0 and float(views.max()) <= 1
    assert len({np.asarray(view).tobytes() for view in views}) == 8
    again, _ = make(augmentation, jax.random.split(key, 8))
    np.testing.assert_array_equal(views, again)


def test_eleven_numbers_are_traced_and_act_as_they_say(key):
    keys = jax.random.split(key, 4000)
    draw = jax.jit(lambda policy: jax.vmap(policy.draw)(keys))
    acts = draw(GroupAugment(p_color=0.6, n_color=2.0, p_geometric=1.0, n_total=5.0))
    color_acts = np.stack([acts[name] for name in GROUPS["color"]], -1).sum(-1)
    assert set(color_acts) == {0, 2}
    assert abs((color_acts > 0).mean() - 0.6) < 0.03
    assert abs(np.mean(acts["flip"]) - 0.5) < 0.03
    assert abs(np.mean(acts["shift_scale_rotate"]) - 0.5) < 0.03
    assert not np.any(acts["elastic"]) and not np.any(acts["cut_out"])
    one = draw(GroupAugment(**{f"p_{group}": 1.0 for group in GROUPS}, n_total=1.0))
    number = np.stack(list(one.values()), -1).sum(-1)
    np.testing.assert_array_equal(number, 1)  # one group, one operation
    assert draw._cache_size() == 1


def test_a_policy_that_does_nothing_is_a_crop(image, key):
    names = [f"p_{group}" for group in GROUPS]
    policy = GroupAugment(**dict.fromkeys(names, 0.0))
    view, box = policy(key, image, SIZE)
    where = geometry.through_box(geometry.coordinates(SIZE), box)
    np.testing.assert_array_equal(view, geometry.sample(image, where))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"p_color": 1.5}, "p_color must be a number .* got 1.5"),
        ({"n_quality": 3}, "n_quality must be a whole number .* got 3"),
        ({"n_total": 2.5}, "n_total must be a whole number .* got 2.5"),
        ({"p_colour": 0.5}, r"must name numbers of GroupAugment, got \['p_colour'\]"),
    ],
)
def test_a_policy_out_of_range_is_told(config, message):
    with pytest.raises(ValueError, match=message):
        GroupAugment.from_config(config)

"""Hard pairs, methods, steps, runs that resume, and populations."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hardviews
from hardviews.methods import BYOL, METHODS, SimCLR, SimSiam
from hardviews.population import stack, train_population
from hardviews.training import (
    make_optimizer,
    make_views,
    program_config,
    run_key,
    start,
    take_steps,
    train_epoch,
    train_step,
)
from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_runs.run_folder import RunFolderError

# ------------------------------------------------------------------ selection


def distance(a, b):
    return jnp.sum(jnp.square(a["x"] - b["x"]), -1)


def test_the_hardest_pair_is_the_one_of_highest_loss(key):
    outputs = {"x": jax.random.normal(key, (5, 20, 3))}
    found = jax.jit(lambda o: hardviews.hardest_pairs(distance, o))(outputs)
    x = np.asarray(outputs["x"])
    for row in range(20):
        losses = {
            (n, m): np.square(x[n, row] - x[m, row]).sum()
            for n, m in itertools.combinations(range(5), 2)
        }
        assert max(losses, key=losses.get) == (found.first[row], found.second[row])
    assert found.losses.shape == (10, 20)
    kept = found.take(outputs)["x"]
    np.testing.assert_array_equal(kept[1, 7], x[found.second[7], 7])


def test_of_two_views_the_pair_is_all_there_is(key):
    outputs = {"x": jax.random.normal(key, (2, 20, 3))}
    kept = hardviews.hardest_pairs(distance, outputs).take(outputs)
    np.testing.assert_array_equal(kept["x"], outputs["x"])


@pytest.mark.parametrize("shapes", [[(1, 4)], [(3, 4), (4, 4)], [()], []])
def test_fewer_than_two_views_are_told(shapes):
    with pytest.raises(ValueError, match="two views or more"):
        hardviews.hardest_pairs(distance, [np.zeros(shape) for shape in shapes])


# -------------------------------------------------------------------- methods


def units(key, *shape):
    x = np.asarray(jax.random.normal(key, shape), np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_losses_are_those_of_the_papers(key):
    p, q, z, w = units(key, 4, 6, 5)
    first, second = ({"prediction": a, "target": b} for a, b in ((p, z), (q, w)))
    cosines = (p * w).sum(-1) + (q * z).sum(-1)
    np.testing.assert_allclose(
        SimSiam().pair_loss(first, second), -cosines / 2, rtol=1e-5
    )
    squares = np.square(p - w).sum(-1) + np.square(q - z).sum(-1)
    np.testing.assert_allclose(BYOL().pair_loss(first, second), squares, rtol=1e-5)


def test_simclr_is_cross_entropy_over_the_other_views(key):
    z, w = units(key, 2, 6, 5)
    found = SimCLR(temperature=0.3).pair_loss({"projection": z}, {"projection": w})
    both = np.concatenate([z, w])
    for row in range(6):
        losses = []
        for anchor, partner in ((row, row + 6), (row + 6, row)):
            logits = np.delete(both @ both[anchor] / 0.3, anchor)
            right = both[partner] @ both[anchor] / 0.3
            losses.append(np.log(np.exp(logits).sum()) - right)
        np.testing.assert_allclose(found[row], np.mean(losses), rtol=1e-5)


# ---------------------------------------------------------------------- steps


def one_step(config, pictures, select=None):
    optimizer = make_optimizer(config, 10)

    @jax.jit
    def step(state):
        rows = jnp.arange(config.batch_size)
        views, boxes = make_views(
            config, config.augmentation, pictures, rows, jax.random.key(5)
        )
        return train_step(config, optimizer, state, views, boxes, select)

    state = start(config, 10)
    return state, *step(state)


def test_two_views_are_the_plain_method_to_the_bit(config, pictures):
    _, plain, numbers = one_step(config, pictures, select=False)
    _, through_selection, again = one_step(config, pictures, select=True)
    assert tree_sha256(plain) == tree_sha256(through_selection)
    assert numbers["loss"] == again["loss"]
    _, default, _ = one_step(config, pictures)
    assert tree_sha256(plain) == tree_sha256(default)


@pytest.mark.parametrize(
    "name",
    [  # SimCLR's loss has its own test; SimSiam's step is BYOL's without a copy.
        pytest.param(name, marks=[pytest.mark.slow] * (name != "byol"))
        for name in METHODS
    ],
)
def test_hard_views_raise_the_loss_and_every_part_learns(name, config, pictures):
    method = METHODS[name](8, 4)
    if name == "byol":
        method = dataclasses.replace(method, rate=0.25)
    config = dataclasses.replace(config, method=method, num_views=4)
    before, after, hard = one_step(config, pictures)
    _, _, random = one_step(config, pictures, select=False)
    assert float(hard["loss"]) > float(random["loss"])
    assert hard["overlap_random"] == random["overlap"]
    for part in after.weights.params:
        old, new = before.weights.params[part], after.weights.params[part]
        assert tree_sha256(old) != tree_sha256(new), part
    assert (after.target is None) == (name != "byol")
    if after.target is not None:  # It follows at its rate.
        old, copy, new = (
            np.asarray(w.params["projector"]["Dense_0"]["kernel"])
            for w in (before.target, after.target, after.weights)
        )
        np.testing.assert_allclose(copy, old + 0.25 * (new - old), atol=1e-6)


def test_nothing_but_the_predictor_keeps_its_rate(config):
    optimizer = make_optimizer(config, 10)
    params = {
        "encoder": jnp.ones(2),
        "projector": jnp.ones(2),
        "predictor": jnp.ones(2),
    }
    state = optimizer.init(params)
    zero = jax.tree.map(jnp.zeros_like, params)
    grown = jax.tree.map(lambda x: jnp.full_like(x, 10.0), zero)
    for _ in range(9):
        _, state = optimizer.update(zero, state, zero)
    updates, _ = optimizer.update(grown, state, params)
    assert abs(updates["predictor"][0]) > 30 * abs(updates["encoder"][0]) > 0


@pytest.mark.slow  # two more programs of a whole network
def test_an_epoch_in_one_program_is_its_steps_one_by_one(config, pictures):
    """Accelerators run the first, for which it lowers, and CPUs the second."""
    steps = config.steps_per_epoch(len(pictures))
    given = (2 * steps, start(config, 2 * steps), pictures.replace(labels=None))
    given += (config.augmentation, run_key(config))
    program = jax.jit(take_steps, static_argnums=(0, 1))
    traced = program.trace(program_config(config), steps, *given)
    assert traced.lower(lowering_platforms=("cuda", "tpu")) is not None
    at_once, numbers = program(program_config(config), steps, *given)
    one_by_one, same_numbers = train_epoch(config, *given)
    np.testing.assert_allclose(numbers["loss"], same_numbers["loss"], rtol=1e-4)
    np.testing.assert_array_equal(numbers["overlap"], same_numbers["overlap"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        at_once.weights,
        one_by_one.weights,
    )


# ----------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def finished(config, pictures, test_pictures, tmp_path_factory):
    """Two epochs in a folder, evaluated."""
    out = tmp_path_factory.mktemp("run")
    lines = []
    encoder = hardviews.pretrain(
        out, config, pictures, test=(pictures, test_pictures), say=lines.append
    )
    return out, encoder, lines


def test_a_run_leaves_an_encoder_that_gives_the_same_features(finished, pictures):
    out, encoder, lines = finished
    loaded = hardviews.load_encoder(out)
    images = pictures.images[:5]
    np.testing.assert_array_equal(loaded(images), encoder(images))
    assert loaded.config == encoder.config
    card = hardviews.read_card(out)
    assert card["epoch"] == 2 and 0 <= card["linear"] <= 1
    assert len(lines) == 3 and "linear" in lines[2]
    assert lines[0] == "compiling, then 2 epochs of 3 steps"


def test_a_stopped_run_goes_on_to_the_same_bits(
    config, pictures, test_pictures, finished, tmp_path
):
    class Stop(Exception):
        pass

    def stop(line):
        if line.startswith("epoch"):
            raise Stop

    test = pictures, test_pictures
    with pytest.raises(Stop):
        hardviews.pretrain(tmp_path / "a", config, pictures, test=test, say=stop)
    lines = []
    encoder = hardviews.pretrain(
        tmp_path / "a", config, pictures, test=test, resume=True, say=lines.append
    )
    assert len(lines) == 2
    assert tree_sha256(encoder) == tree_sha256(finished[1])
    rows = (tmp_path / "a" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    other = dataclasses.replace(config, weight_decay=0.1)
    with pytest.raises(RunFolderError, match="weight_decay"):
        hardviews.pretrain(tmp_path / "a", other, pictures, test=test, resume=True)


@pytest.mark.slow  # learning to a margin
def test_training_makes_features_better_than_none(config, pictures, test_pictures):
    found = []
    config = dataclasses.replace(config, num_epochs=12, view_size=12)
    state = hardviews.train(config, pictures, on_epoch=lambda s, row: found.append(row))
    trained = hardviews.encoder_of(config, state, pictures)
    scores = hardviews.evaluate_encoder(trained, pictures, test_pictures)
    assert found[-1]["loss"] < found[0]["loss"] - 0.2
    assert scores["linear"] > 0.8 and scores["knn"] > 0.6


@pytest.mark.slow  # likewise
def test_policies_train_side_by_side_as_one_by_one(config, pictures):
    """Both mappings give what a training of one policy gives."""
    policies = [hardviews.Crop(0.2, 0.4), hardviews.Crop(0.9, 1.0)]

    def score(encoder):
        return float(jnp.sum(jnp.abs(encoder.params["Conv_0"]["kernel"])))

    side_by_side, seconds = train_population(
        config, policies, pictures, score, mapping="vmap"
    )
    looped, _ = train_population(config, policies, pictures, score, mapping="loop")
    np.testing.assert_allclose(side_by_side, looped, rtol=1e-4)
    assert side_by_side.shape == seconds.shape == (2, 2)
    assert abs(side_by_side[0, -1] - side_by_side[1, -1]) > 1e-3
    alone = dataclasses.replace(config, augmentation=policies[1])
    state = hardviews.train(alone, pictures)
    encoder = hardviews.encoder_of(alone, state, pictures)
    np.testing.assert_allclose(score(encoder), looped[1, -1], rtol=1e-4)


def test_a_population_is_of_one_kind():
    with pytest.raises(ValueError, match=r"Crop.*TrivialAugment"):
        stack([hardviews.Crop(), hardviews.TrivialAugment()])
    with pytest.raises(ValueError, match="none"):
        stack([])

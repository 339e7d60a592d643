"""Our model: what its attention may see, its gate, its heads, its files."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_runs.weight_files import read_weights, write_weights
from oswm.closed_form import Persistence, Ridge
from oswm.conditioning import _shipped_model
from oswm.context import Context
from oswm.heads import Bars, Mixture
from oswm.model import TransformerModel
from oswm.network import Network, NetworkConfig, attend, init_weights
from oswm.prior.default import draw_batch
from oswm.selection import LeaveOneOut
from oswm.tokens import read_context, read_query
from oswm.weights import FORMAT_VERSION, load_model, read_card, save_model

TINY = NetworkConfig(width=16, num_layers=2, num_heads=2, num_hidden=16, num_models=2)
# Few, and without kernel ridge regression, which takes long to compile.
BASE = LeaveOneOut((Ridge(), Persistence()))


@pytest.fixture(scope="module")
def weights():
    """Untrained, and stirred: layers that start at zero would hide mistakes."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: x + np.float32(0.2 * rng.normal(size=x.shape)),
        jax.device_get(init_weights(jax.random.key(0), TINY)),
    )


@pytest.fixture(scope="module")
def context():
    """A pendulum-like task: 3 observations, 2 actions, 60 rows and 4 of padding."""
    keys = jax.random.split(jax.random.key(2), 3)
    obs = np.asarray(jax.random.normal(keys[0], (64, 3)))
    action = np.asarray(jax.random.uniform(keys[1], (64, 2)))
    change = np.float32(0.1) * np.sin(3 * obs) + action[:, :1]
    rows = Context(
        obs=obs,
        action=action,
        next_obs=obs + change,
        reward=-np.abs(obs[:, 0]),
        terminated=(obs[:, 1] > 1).astype(np.float32),
        mask=(np.arange(64) < 60).astype(np.float32),
    )
    return jax.tree.map(jnp.asarray, rows)


@pytest.fixture(scope="module")
def model(weights):
    return TransformerModel(weights, TINY, BASE, num_folds=2)


@pytest.fixture(scope="module")
def linear(context):
    """The same rows of a task that ridge regression predicts exactly."""
    return context.replace(
        next_obs=1.1 * context.obs + context.action[:, :1],
        reward=context.action[:, 1],
    )


@pytest.fixture(scope="module")
def untrained():
    weights = init_weights(jax.random.key(0), TINY)
    return TransformerModel(weights, TINY, BASE, num_folds=0)


# Of a bound method, jax.jit would compile anew each time.
@functools.partial(jax.jit, static_argnums=0)
def fit(model, context):
    return model.fit(context)


@functools.partial(jax.jit, static_argnums=0)
def predict(model, cache, obs, action):
    return model.predict(cache, obs, action)


@functools.partial(jax.jit, static_argnums=0)
def predict_each(model, cache, obs, action):
    return jax.vmap(model.predict, (None, 0, 0))(cache, obs, action)


def predict_all(model, context, obs, action):
    return predict_each(model, fit(model, context), obs, action)


def test_network_ignores_the_order_of_rows_and_padding(weights, context):
    network = Network(TINY)

    @jax.jit
    def read(context, obs, action):
        fits, *left_out = BASE.fit_each(context)
        scales, rows, _ = read_context(context, *left_out)
        found = jax.vmap(BASE.predict_each, (None, 0, 0), 1)(fits, obs, action)
        return rows, read_query(scales, obs, action, *found)

    @jax.jit
    def decode(rows, query):
        cache = network.apply({"params": weights}, rows, method="encode")
        return network.apply({"params": weights}, cache, query, method="decode")

    rows, query = jax.device_get(read(context, context.obs[:5], context.action[:5]))
    found = decode(rows, query)
    assert np.abs(found.params).max() > 0.1
    order = np.random.default_rng(3).permutation(64)
    permuted = decode(jax.tree.map(lambda x: x[order], rows), query)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, permuted
    )
    is_used = rows.mask > 0
    nonsense = jax.tree.map(
        lambda x: np.where(is_used.reshape(-1, *[1] * (x.ndim - 1)), x, np.float32(7)),
        rows,
    ).replace(mask=rows.mask)
    padded = decode(nonsense, query)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, padded
    )


def test_attention_is_a_softmax_and_so_is_its_gradient():
    """Of the weights, and of the largest one, which is 1 over their sum."""
    keys = jax.random.split(jax.random.key(3), 3)
    queries = jax.random.normal(keys[0], (5, 2, 4))
    rows = jax.random.normal(keys[1], (2, 4, 9))
    values = jax.random.normal(keys[2], (9,))
    mask = (jnp.arange(9) < 7).astype(jnp.float32)

    def ours(queries):
        weights = attend(queries, rows, [], mask)
        total = jnp.sum(weights, -1)
        return jnp.sum(weights @ values / total) + jnp.sum(jnp.square(1 / total))

    def plain(queries):
        logits = jnp.einsum("mhd,hdn->hmn", queries, rows)
        weights = jax.nn.softmax(jnp.where(mask > 0, logits, -jnp.inf))
        return jnp.sum(weights @ values) + jnp.sum(jnp.square(jnp.max(weights, -1)))

    found, expected = (jax.jit(jax.value_and_grad(f))(queries) for f in (ours, plain))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found,
        expected,
    )


def test_one_query_does_not_change_another(model, context):
    """Each query by itself from a kept cache, against all of them together."""
    obs, action = context.obs + 0.1, context.action
    cache = fit(model, context)
    together = predict_each(model, cache, obs, action)
    for i in range(6):
        alone = predict(model, cache, obs[i], action[i])
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a, b[i], atol=1e-5, rtol=1e-4),
            alone,
            together,
        )


def test_units_of_the_task_do_not_matter(model, context):
    scaled = context.replace(
        obs=100 * context.obs,
        next_obs=100 * context.next_obs,
        reward=0.01 * context.reward,
    )
    found = predict_all(model, context, context.obs, context.action)
    other = predict_all(model, scaled, scaled.obs, scaled.action)
    np.testing.assert_allclose(
        100 * found.next_obs_mean, other.next_obs_mean, rtol=1e-3, atol=0.3
    )
    np.testing.assert_allclose(
        0.01 * found.reward_std, other.reward_std, rtol=1e-2, atol=1e-5
    )


def test_the_gate_closes_on_a_network_that_knows_nothing(model, context):
    """A network of random weights may not spoil what the base knows."""
    cache = fit(model, context)
    assert cache.gate.min() >= 0 and cache.gate.max() < 0.7
    trusting = dataclasses.replace(model, num_folds=0)
    errors = []
    for m in (model, trusting):
        found = predict_all(m, context, context.obs, context.action)
        errors.append(jnp.square(found.next_obs_mean - context.next_obs)[:60].mean())
    assert errors[0] < errors[1]


def test_where_nothing_is_left_to_say_the_transformer_is_not_asked(model, linear):
    """Random weights: were they asked, the answer would not be exact."""
    cache = fit(model, linear)
    assert not cache.is_asked
    found = predict_each(model, cache, linear.obs, linear.action)
    wanted = 1.1 * linear.obs + linear.action[:, :1]
    np.testing.assert_allclose(found.next_obs_mean[:60], wanted[:60], atol=1e-4)
    np.testing.assert_array_equal(
        found.terminated_prob[:60] > 0.5, linear.terminated[:60] > 0
    )
    asked = dataclasses.replace(cache, is_asked=jnp.bool_(True))
    other = predict_each(model, asked, linear.obs, linear.action)
    assert np.abs(other.terminated_prob - found.terminated_prob).max() > 1e-3
    # Ends that no half-space or ellipsoid tells apart are looked up in the rows nearby.
    strange = linear.replace(terminated=(jnp.arange(64) % 7 == 0).astype(jnp.float32))
    assert fit(model, strange).is_asked


def test_of_a_large_context_attention_reads_rows_from_all_of_it(model, context):
    few = dataclasses.replace(model, num_rows=20)
    cache = fit(few, context)
    assert cache.network.mask.shape == (20,)
    rows = np.linspace(0, 63, 20).astype(int)
    np.testing.assert_array_equal(cache.network.mask, context.mask[rows])
    jax.tree.map(np.testing.assert_array_equal, cache.fits, fit(model, context).fits)
    found = predict_each(few, cache, context.obs, context.action)
    assert np.isfinite(found.next_obs_mean).all()


class Boaster(Persistence):
    """Often wrong, never in doubt."""

    def fit_targets(self, context):
        """As if it left next to nothing."""
        (mean, std), residual, stds = super().fit_targets(context)
        return (mean, 1e-9 * std), residual, 1e-9 * stds


def test_a_model_that_is_far_better_alone_predicts_alone(untrained, linear):
    """Of two models one is all but exact, the other sure of itself."""
    base = LeaveOneOut((Ridge(), Boaster()))
    noise = 0.05 * jax.random.normal(jax.random.key(4), linear.next_obs.shape)
    noisy = linear.replace(next_obs=linear.next_obs + noise)
    careful = dataclasses.replace(untrained, base=base, num_folds=2)
    cache = fit(careful, noisy)
    np.testing.assert_array_equal(cache.is_blended[:-1], 0.0)
    asked = cache, noisy.obs, noisy.action
    alone = predict_each(careful, *asked).next_obs_mean
    blended = dataclasses.replace(cache, is_blended=jnp.ones(4))
    blended = predict_each(careful, blended, *asked[1:]).next_obs_mean
    errors = [jnp.abs(x - linear.next_obs)[:60].mean() for x in (alone, blended)]
    assert errors[0] < 0.05 and errors[1] > 0.2


def test_between_whole_numbers_the_model_that_is_exact_predicts_alone(untrained):
    """Of a grid, where deviations say little of cells that no row shows."""
    rng = np.random.default_rng(0)
    obs = rng.integers(0, 5, (64, 2)).astype(np.float32)
    action = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 64)]
    rows = Context(
        obs=obs,
        action=action,
        next_obs=obs + action,
        reward=obs[:, 0] - 2 * action[:, 1],
        terminated=np.zeros(64, np.float32),
        mask=np.ones(64, np.float32),
    )
    careful = dataclasses.replace(untrained, num_folds=2)
    np.testing.assert_array_equal(fit(careful, rows).is_blended, 0.0)
    moved = rows.replace(obs=obs + 0.5, next_obs=obs + action + 0.5)
    np.testing.assert_array_equal(fit(careful, moved).is_blended, 1.0)


def test_an_untrained_network_takes_the_model_that_is_exact(untrained, linear):
    obs = 3 * linear.obs  # Where the others are far off.
    found = predict_all(untrained, linear, obs, linear.action)
    wanted = 1.1 * obs + linear.action[:, :1]
    np.testing.assert_allclose(found.next_obs_mean, wanted, atol=2e-3)
    np.testing.assert_allclose(found.reward_mean, linear.reward, atol=2e-3)


def test_as_many_models_as_the_network_blends(weights):
    with pytest.raises(ValueError, match="base must have 2 models"):
        TransformerModel(weights, TINY, LeaveOneOut((Ridge(),)))


def test_constant_columns_stay_constant(model, context):
    constant = context.replace(
        obs=context.obs.at[:, 1].set(5.0),
        next_obs=context.next_obs.at[:, 1].set(5.0),
        reward=jnp.ones(64),
    )
    found = predict_all(model, constant, constant.obs, constant.action)
    np.testing.assert_allclose(found.next_obs_mean[:, 1], 5.0, atol=1e-5)
    np.testing.assert_allclose(found.reward_mean, 1.0, atol=1e-5)
    assert (found.next_obs_std[:, 1] == 0).all() and (found.reward_std == 0).all()


def test_samples_have_the_predicted_mean_and_spread(model, context):
    cache = fit(model, context)
    obs, action = context.obs[0], context.action[0]
    keys = jax.random.split(jax.random.key(4), 40_000)
    draw = jax.jit(jax.vmap(lambda k: model.sample(cache, obs, action, k)))
    next_obs, reward, _ = draw(keys)
    prediction = predict(model, cache, obs, action)
    se = np.asarray(prediction.next_obs_std) / 200
    assert (abs(next_obs.mean(0) - prediction.next_obs_mean) < 5 * se + 1e-5).all()
    spread = prediction.next_obs_std * prediction.tails.deviation[:-1]
    np.testing.assert_allclose(next_obs.std(0), spread, rtol=0.1)
    assert abs(reward.mean() - prediction.reward_mean) < 5 * prediction.reward_std / 200


def test_ends_are_drawn_as_often_as_predicted(untrained, linear):
    """Where the next state is certain: ends depend on the one that is drawn."""
    cache = fit(untrained, linear)
    obs, action = linear.obs[0].at[1].set(1.0), linear.action[0]
    keys = jax.random.split(jax.random.key(4), 4000)
    draw = jax.jit(jax.vmap(lambda k: untrained.sample(cache, obs, action, k)))
    wanted = predict(untrained, cache, obs, action).terminated_prob
    assert 0.02 < wanted < 0.98
    assert abs(draw(keys)[2].mean() - wanted) < 0.05


@pytest.mark.parametrize("head", [Mixture(), Bars()], ids=["mixture", "bars"])
def test_heads_are_distributions(head):
    params = jax.random.normal(jax.random.key(5), (head.num_params,))
    x = np.linspace(-200, 200, 800_001, dtype=np.float32)

    @jax.jit
    def look(params, x):
        many = jnp.broadcast_to(params, (len(x), *params.shape))
        drawn = head.sample(many[:20_000], jax.random.key(6))
        density = jnp.exp(head.log_prob(many, x))
        return density, head.mean(params), head.std(params), drawn

    density, found_mean, found_std, drawn = jax.device_get(look(params, x))
    width = 400 / 800_000
    total = float(density.sum() * width)
    assert abs(total - 1) < 5e-3
    mean = float((density * x).sum() * width)
    np.testing.assert_allclose(found_mean, mean, atol=0.02)
    std = float(np.sqrt((density * np.square(x - mean)).sum() * width))
    np.testing.assert_allclose(found_std, std, rtol=0.02)
    assert abs(float(drawn.mean()) - mean) < 5 * std / 140
    np.testing.assert_allclose(float(drawn.std()), std, rtol=0.05)


def test_too_many_dimensions_are_named(model):
    wide = Context(
        *(jnp.zeros(s) for s in ((8, 17), (8, 2), (8, 17), (8,), (8,), (8,)))
    )
    with pytest.raises(ValueError, match=r"obs must .* at most 16"):
        model.fit(wide)


def test_models_of_equal_weights_are_equal(model, weights):
    again = TransformerModel(jax.tree.map(np.array, weights), TINY, BASE, num_folds=2)
    assert again == model and hash(again) == hash(model)
    assert dataclasses.replace(model, num_folds=0) != model


def test_saved_models_come_back(model, tmp_path):
    """All that a prediction depends on; weights are kept with half the digits."""
    save_model(tmp_path, model.weights, TINY, {"note": "test"})
    loaded = load_model(tmp_path, base=BASE, num_folds=2)
    assert dataclasses.replace(loaded, weights=model.weights) == model
    assert jax.tree.structure(loaded.weights) == jax.tree.structure(model.weights)
    for found, wanted in zip(
        *map(jax.tree.leaves, (loaded.weights, model.weights)), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)


def test_files_that_are_no_models_are_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"oswm\.train"):
        load_model(tmp_path)
    path = save_model(tmp_path, model.weights, TINY, {})
    card, arrays = read_weights(path)
    write_weights(path, arrays, {**card, "format_version": 99})
    with pytest.raises(ValueError, match=f"99.*{FORMAT_VERSION}"):
        load_model(tmp_path)
    wide = {**card["network"], "width": 32}
    write_weights(path, arrays, {**card, "network": wide})
    with pytest.raises(ValueError, match="must have shape"):
        load_model(tmp_path)
    path.write_bytes(b"not an npz file")
    with pytest.raises(ValueError, match="not readable as a world model"):
        load_model(tmp_path)


def test_files_with_a_separate_card_are_read(model, tmp_path):
    """As the shipped ones are, which were written before."""
    path = save_model(tmp_path, model.weights, TINY, {"note": "test"})
    card, arrays = read_weights(path)
    write_weights(path, arrays)
    with pytest.raises(FileNotFoundError, match=r"card\.json"):
        load_model(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert load_model(tmp_path, base=BASE).config == TINY
    assert read_card(tmp_path)["card"] == {"note": "test"}
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ValueError, match="card"):
        load_model(tmp_path)


def test_missing_shipped_weights_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("oswm.weights.PRETRAINED", tmp_path)
    with pytest.raises(FileNotFoundError, match="shipped weights are missing"):
        _shipped_model.__wrapped__()


@pytest.mark.slow
def test_a_batch_of_contexts_vmaps(model):
    data = jax.jit(draw_batch, static_argnums=(1, 2, 3))(jax.random.key(7), 3, 32, 4)

    @jax.jit
    @jax.vmap
    def run(dataset):
        cache = model.fit(dataset.context)
        query = dataset.queries
        return model.predict(cache, query.obs[0], query.action[0])

    assert jnp.isfinite(run(data).next_obs_mean).all()

"""How errors are spread: fitted to scores, drawn again, and central shares of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import oswm
from oswm.tails import Tails

NUM_ROWS = 1000


def scores():
    """Of three targets: mostly small, Gaussian of another deviation, and all 0."""
    rng = np.random.default_rng(0)
    narrow, wide = 0.1 * rng.normal(size=NUM_ROWS), 3 * rng.normal(size=NUM_ROWS)
    mixed = np.where(rng.uniform(size=NUM_ROWS) < 0.1, wide, narrow)
    gaussian = 2 * rng.normal(size=NUM_ROWS)
    return jnp.asarray(np.stack([mixed, gaussian, np.zeros(NUM_ROWS)], 1), jnp.float32)


def test_central_shares_are_those_of_the_rows():
    found = scores()
    tails = jax.jit(Tails.fit)(found, jnp.ones(NUM_ROWS))
    central = np.abs(2 * np.asarray(jax.vmap(tails.cdf)(found)) - 1)
    for level in (0.5, 0.9):
        share = np.mean(central[:, :2] <= level, axis=0)
        np.testing.assert_allclose(share, level, atol=0.04)
    # One Gaussian of the same deviation holds nine in ten in its central half.
    std = np.std(found[:, 0])
    assert np.mean(np.abs(found[:, 0]) < 0.674 * std) > 0.85
    np.testing.assert_allclose(tails.deviation[:2], np.std(found[:, :2], 0), rtol=0.05)
    least = np.maximum(tails.deviation, 1.0)
    np.testing.assert_allclose(tails.no_narrower().deviation, least, rtol=1e-5)
    assert np.isfinite(np.asarray(tails.scales)).all()


def test_a_deviation_of_next_to_nothing_says_little_of_others():
    """Where a target hardly varies, one row may be off by millions of deviations."""
    far = scores().at[3].set(1e7)
    tails = Tails.fit(far, jnp.ones(NUM_ROWS))
    assert float(tails.deviation.max()) < 5


def test_rows_that_are_not_in_use_change_nothing():
    found, fit = scores(), jax.jit(Tails.fit)
    mask = jnp.ones(NUM_ROWS).at[600:].set(0.0)
    junk = fit(found.at[600:].set(50.0), mask)
    junk, same = (x.scales for x in (junk, fit(found, mask)))
    np.testing.assert_allclose(junk, same, rtol=1e-4)


def test_draws_are_spread_as_what_they_were_fitted_to():
    tails = Tails.fit(scores(), jnp.ones(NUM_ROWS))
    drawn = jax.vmap(tails.draw)(jax.random.split(jax.random.key(1), 20_000))
    levels = [0.1, 0.25, 0.75, 0.9]
    for i in range(2):
        asked, found = np.asarray(scores()[:, i]), np.asarray(drawn[:, i])
        wanted, found = np.quantile(asked, levels), np.quantile(found, levels)
        np.testing.assert_allclose(found, wanted, atol=0.1 * float(asked.std()))


def test_the_distribution_of_a_prediction():
    prediction = oswm.Prediction(
        next_obs_mean=jnp.array([1.0, 2.0]),
        next_obs_std=jnp.array([0.5, 0.0]),
        reward_mean=jnp.float32(0.0),
        reward_std=jnp.float32(2.0),
        terminated_prob=jnp.float32(0.0),
    )
    below = prediction.cdf(jnp.array([1.5, 2.0]), jnp.float32(-2.0))
    np.testing.assert_allclose(below, [0.8413, 0.5, 0.1587], atol=1e-4)
    tails = Tails(jnp.array([[1.0, 0.0]] * 3), jnp.array([[2.0, 9.0]] * 3))
    wide = dataclasses.replace(prediction, tails=tails)
    below = wide.cdf(jnp.array([2.0, 2.0]), jnp.float32(-4.0))
    np.testing.assert_allclose(below, [0.8413, 0.5, 0.1587], atol=1e-4)
    draw = jax.vmap(lambda key: wide.sample(key)[:2])
    next_obs, reward = draw(jax.random.split(jax.random.key(0), 20_000))
    np.testing.assert_allclose(next_obs.std(0), [1.0, 0.0], atol=0.03)
    np.testing.assert_allclose(reward.std(), 4.0, rtol=0.03)

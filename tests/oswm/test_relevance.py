"""Length scales per input: the likelihood's gradient, what is found, what it helps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import oswm
from oswm.fitting import fit
from oswm.landmarks import PROFILES
from oswm.relevance import Flattened, RelevanceSearch, likelihood

NUM_ROWS = 96


@pytest.fixture(scope="module")
def rows():
    """Of six inputs only the first matters to what a line leaves."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(NUM_ROWS, 5)).astype(np.float32)
    action = rng.uniform(-1, 1, (NUM_ROWS, 1)).astype(np.float32)
    change = np.zeros_like(obs)
    change[:, 0] = np.sin(3 * obs[:, 0]) + 0.2 * obs[:, 1]
    return envs.Transitions(
        obs=obs,
        action=action,
        reward=np.cos(2 * obs[:, 2]).astype(np.float32),
        next_obs=obs + change,
        terminated=np.zeros(NUM_ROWS, bool),
        truncated=np.zeros(NUM_ROWS, bool),
    )


def flattened(rows):
    inputs = jnp.asarray(np.concatenate([rows.obs, rows.action], axis=1))
    mask = jnp.ones(NUM_ROWS).at[80:].set(0.0)
    inputs = mask[:, None] * inputs
    basis = jnp.concatenate([mask[:, None], inputs], axis=1)
    targets = mask[:, None] * jnp.asarray(rows.next_obs - rows.obs)[:, :1]
    return inputs, basis, targets, mask


@pytest.mark.parametrize(
    ("share", "smoothness"),
    [
        (None, None),
        (0.0, None),
        (0.5, None),
        (None, "gaussian"),
        (None, "matern52"),
        (0.5, "matern52"),
    ],
)
def test_the_gradient_is_that_of_the_likelihood(rows, share, smoothness):
    inputs, basis, targets, mask = flattened(rows)
    additive = None if share is None else jnp.float32(share)
    flat = Flattened.of(basis, targets, mask)
    used = jnp.ones(6).at[4].set(0.0)
    profile = None if smoothness is None else jnp.array(PROFILES[smoothness])
    value = jax.jit(
        lambda place: likelihood(inputs, flat, place, used, additive, profile)
    )
    place = jnp.array([0.1, -0.4, -0.6, -0.9, 0.0, -0.8, -3.0])
    _, gradient = value(place)
    assert gradient[4] == 0
    for i in (0, 1, 5, 6):
        step = jnp.zeros(7).at[i].set(1e-2)
        slope = (value(place + step)[0] - value(place - step)[0]) / 2e-2
        np.testing.assert_allclose(gradient[i], slope, rtol=0.02, atol=0.02)


def test_relevance_is_found_and_padding_ignored(rows):
    inputs, basis, targets, mask = flattened(rows)
    search = jax.jit(RelevanceSearch(num_rows=NUM_ROWS))
    start = jnp.full(6, 0.4).at[5].set(0.0)
    found = search(inputs, basis, targets, mask, start)
    assert found[0] > 10 * found[1:].max() and found[5] == 0
    junk = inputs.at[80:].set(3.0)  # Where rows are not in use.
    again = search(junk, basis, targets, mask, start)
    np.testing.assert_allclose(again, found, rtol=1e-3)


@functools.partial(jax.jit, static_argnums=0)
def predict(model, cache, obs, action):
    return jax.vmap(model.predict, (None, 0, 0))(cache, obs, action)


@pytest.mark.slow  # compiles for long; the next test finds relevances
@pytest.mark.parametrize("kind", ["ard", "guess", "fast"])
def test_irrelevant_inputs_cost_nothing(rows, kind):
    """Errors on other rows are a tenth of those of one length scale for all inputs."""
    settings: dict = {"length_scales": (0.5, 1.0), "penalties": (1e-4, 1e-2)}
    search = RelevanceSearch(num_steps=25, num_rows=NUM_ROWS)
    if kind == "guess":
        search = RelevanceSearch(3, NUM_ROWS, guess="shipped")
    plain = oswm.KernelRidge(64, 32, **settings)
    model = oswm.FastKernelRidge(64, 32, 32, **settings, search=search)
    if kind == "ard":
        model = oswm.KernelRidge(64, 32, **settings, ard=True, search=search)
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(50, 5)).astype(np.float32)
    action = rng.uniform(-1, 1, (50, 1)).astype(np.float32)
    wanted = obs[:, 0] + np.sin(3 * obs[:, 0]) + 0.2 * obs[:, 1]
    context = oswm.Context.of(rows)
    one, each = (
        np.mean(
            (predict(m, fit(m, context), obs, action).next_obs_mean[:, 0] - wanted) ** 2
        )
        for m in (plain, model)
    )
    assert each < 0.1 * one


def test_guesses_that_are_none_are_refused():
    for wrong in ("shiped", 3, oswm.load_guess):
        with pytest.raises(ValueError, match='guess must be "shipped"'):
            RelevanceSearch(guess=wrong)

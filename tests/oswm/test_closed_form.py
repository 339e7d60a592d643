"""Closed-form world models: exactness, leave-one-out, masks, known functions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import oswm
from oswm.fitting import fit
from oswm.landmarks import (
    PROFILES,
    choose_landmarks,
    kernel,
    radial,
    radial_slope,
)
from oswm.linalg import inverse_factor
from oswm.nearest_neighbours import least_rows
from oswm.polynomials import blocks_left_out, fit_polynomials, solve_kernel
from oswm.termination import Termination

SMALL = oswm.KernelRidge(48, length_scales=(0.5, 1.0), penalties=(1e-4, 1e-2))
NUM_ROWS = 200  # Of all contexts, so that each model compiles once.
MODELS = [
    oswm.Persistence(),
    oswm.Ridge(),
    oswm.Ridge(quadratic=True),
    SMALL,
    oswm.NearestNeighbours(),
    oswm.LeaveOneOut((oswm.Ridge(), oswm.NearestNeighbours())),
]
NAMES = [f"{i}-{type(model).__name__}" for i, model in enumerate(MODELS)]


def transitions(num_rows=NUM_ROWS, seed=0):
    """Rows with two observations and one continuous action."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(num_rows, 2)).astype(np.float32)
    action = rng.uniform(-1, 1, (num_rows, 1)).astype(np.float32)
    next_obs = np.stack(
        [obs[:, 0] + 0.1 * obs[:, 1], obs[:, 1] + np.sin(obs[:, 0]) + action[:, 0]],
        axis=1,
    )
    return envs.Transitions(
        obs=obs,
        action=action,
        reward=-(obs[:, 0] ** 2),
        next_obs=next_obs,
        terminated=obs[:, 0] > 1.0,
        truncated=np.zeros(num_rows, bool),
    )


def targets(context):
    change = context.next_obs - context.obs
    return np.concatenate([change, context.reward[:, None]], axis=1)


@functools.partial(jax.jit, static_argnums=0)
def predict(model, cache, context):
    return jax.vmap(model.predict, (None, 0, 0))(cache, context.obs, context.action)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_inverse_factor_inverts(size):
    matrix = np.random.default_rng(0).normal(size=(size, 2 * size))
    matrix = (matrix @ matrix.T / size).astype(np.float32)
    half = np.asarray(jax.jit(inverse_factor)(jnp.asarray(matrix)), np.float64)
    np.testing.assert_allclose(half.T @ half @ matrix, np.eye(size), atol=2e-4)


def test_inverse_factor_batches():
    matrix = np.random.default_rng(0).normal(size=(7, 80, 200)).astype(np.float32)
    matrix = jnp.asarray(matrix @ matrix.transpose(0, 2, 1))
    each = jax.jit(jax.vmap(inverse_factor))(matrix)
    np.testing.assert_allclose(each[3], jax.jit(inverse_factor)(matrix[3]), atol=1e-5)


def test_inverse_factor_has_derivatives():
    matrix = np.random.default_rng(0).normal(size=(3, 6, 12)).astype(np.float32)
    matrix = jnp.asarray(matrix @ matrix.transpose(0, 2, 1)) / 12
    change = jnp.asarray(np.diag(np.arange(6.0)) + 0.1, jnp.float32)
    one = jax.jvp(inverse_factor, (matrix[0],), (change,))[1]
    ahead, behind = (inverse_factor(matrix[0] + x * change) for x in (1e-3, -1e-3))
    np.testing.assert_allclose(one, (ahead - behind) / 2e-3, rtol=0.02, atol=0.02)

    def total(matrix):
        return jnp.sum(jnp.square(inverse_factor(matrix)))

    # Of log-determinants and traces it is known: here of the inverse's trace.
    inverse = jnp.linalg.inv(matrix[1])
    found = jax.jit(jax.vmap(jax.grad(total)))(matrix)[1]
    np.testing.assert_allclose(
        (found + found.T) / 2, -inverse @ inverse, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(("likeness", "is_kept"), [(0.1, True), (4e-3, False)])
def test_a_polynomial_and_a_kernel_are_fitted_together(likeness, is_kept):
    """However much alike two of its terms are, as those before and after a step."""
    rng = np.random.default_rng(0)
    terms = rng.normal(size=(80, 4))
    terms[:, 3] = terms[:, 2] + likeness * rng.normal(size=80)
    columns = np.sin(terms @ rng.normal(size=(4, 5)))
    columns[:, 4] = (terms[:, 3] - terms[:, 2]) / likeness
    target = rng.normal(size=(80, 1)) + terms[:, :1]
    arrays = (jnp.asarray(x, jnp.float32) for x in (terms, target))
    polynomials = fit_polynomials(*arrays, jnp.ones((1, 4)), 3)
    polynomial = jax.tree.map(lambda x: x[0], polynomials)
    flat = polynomial.flatten(jnp.asarray(columns, jnp.float32))
    found = jax.jit(solve_kernel)(flat, polynomial, 1e-2)
    size = 4 if is_kept else 3
    every = np.concatenate([terms[:, :size], columns], axis=1)
    penalties = np.diag([0.0] * size + [1e-2] * 5)
    smoother = every @ np.linalg.solve(every.T @ every + penalties, every.T)
    leverage, residual = np.diag(smoother), target - smoother @ target
    np.testing.assert_allclose(found.leverage, leverage, atol=1e-4)
    np.testing.assert_allclose(found.residual, residual, atol=1e-4)
    left_out = residual[:, 0] / (1 - leverage)
    np.testing.assert_allclose(found.left_out[:, 0], left_out, atol=1e-3)


def test_a_task_that_is_a_polynomial_is_predicted_to_the_last_bits():
    data = transitions()
    reward = 2 * data.obs[:, 0] * data.obs[:, 1] - 1
    next_obs = data.obs @ np.array([[1, 0.1], [-0.2, 0.9]]) + data.action
    data = dataclasses.replace(data, reward=reward, next_obs=next_obs.astype("f4"))
    residual = fit(SMALL, oswm.Context.of(data)).residual
    assert np.abs(residual[:, :2]).max() < 2e-6
    assert np.abs(residual[:, 2]).max() < 1e-5


@pytest.mark.parametrize("kind", ["one place", "two places", "a line"])
def test_where_rows_show_next_to_nothing_predictions_are_finite(kind):
    data = transitions()
    obs = np.ones_like(data.obs)
    if kind == "two places":
        obs[NUM_ROWS // 2 :] = 2.0
    elif kind == "a line":
        obs = obs * np.linspace(-1, 1, NUM_ROWS, dtype=np.float32)[:, None]
    data = dataclasses.replace(data, obs=obs, next_obs=obs + 0.1 * data.action)
    context = oswm.Context.of(data)
    found = predict(SMALL, fit(SMALL, context), context)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(found.next_obs_mean, data.next_obs, atol=2e-3)


def test_a_fit_step_by_step_is_the_fit():
    """`condition` compiles `stages` one by one, each as suits it."""
    context = oswm.Context.of(transitions())
    stepwise, whole = fit(SMALL, context), jax.jit(SMALL.fit)(context)
    close = functools.partial(np.testing.assert_allclose, atol=2e-3, rtol=2e-3)
    close(stepwise.residual, whole.residual)
    found = [predict(SMALL, cache, context) for cache in (stepwise, whole)]
    jax.tree.map(close, *found)


@dataclasses.dataclass(frozen=True)
class Doubled(oswm.KernelRidge):
    """Twice as unsure."""

    def fit_scored(self, context):
        fitted = super().fit_scored(context)
        return fitted._replace(std=2 * fitted.std, residual=2 * fitted.residual)


def test_a_subclass_fits_in_its_own_way():
    context = oswm.Context.of(transitions())
    doubled = Doubled(**dataclasses.asdict(SMALL) | {"search": SMALL.search})
    wanted = 2 * fit(SMALL, context).residual
    np.testing.assert_allclose(fit(doubled, context).residual, wanted, atol=4e-3)


@pytest.mark.parametrize("additive", [None, 0.5])
def test_landmarks_reproduce_the_kernel_matrix(additive):
    points = jnp.asarray(np.random.default_rng(0).normal(size=(60, 2)), jnp.float32)
    mask, used = jnp.ones(60).at[50:].set(0.0), jnp.ones(2, bool)
    choose = jax.jit(choose_landmarks, static_argnums=(2, 4))
    rows, whitening = choose(points, mask, 45, used, additive)
    assert rows.max() < 50
    many = jax.jit(jax.vmap(kernel, (0, None, None, None)), static_argnums=3)

    def matrix(landmarks):
        return np.asarray(many(points[:50], landmarks, used, additive))

    features = matrix(points[rows]) @ np.asarray(whitening).T
    np.testing.assert_allclose(features @ features.T, matrix(points[:50]), atol=2e-3)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_leave_one_out_residuals_are_those_of_a_fit_without_the_row(model):
    """The scales of the columns, which see all rows, move little with one of 200."""
    if model == SMALL:  # Its choices must not flip, and all rows are landmarks.
        settings: dict = {"length_scales": (0.5,), "smoothness": ("gaussian",)}
        model = oswm.KernelRidge(128, **settings, penalties=(1e-2,))
    context = oswm.Context.of(transitions(128 if model not in MODELS else NUM_ROWS))
    residual = fit(model, context).residual
    scale = np.std(targets(context), axis=0)
    for row in (0, 17, 101):
        others = context.replace(mask=context.mask.at[row].set(0.0))
        found = predict(model, fit(model, others), context)
        found = np.append(
            context.next_obs[row] - found.next_obs_mean[row],
            context.reward[row] - found.reward_mean[row],
        )
        np.testing.assert_allclose(found / scale, residual[row] / scale, atol=0.03)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_rows_that_are_not_in_use_change_nothing(model):
    context = oswm.Context.of(transitions(150))
    padded = context.pad(NUM_ROWS)
    junk = jax.tree.map(lambda x: x.at[150:].set(1e3), padded)
    padded, junk = (fit(model, c.replace(mask=padded.mask)) for c in (padded, junk))
    assert not np.asarray(junk.residual[150:]).any()
    queries = oswm.Context.of(transitions(seed=1))
    a, b = predict(model, padded, queries), predict(model, junk, queries)
    np.testing.assert_allclose(a.next_obs_mean, b.next_obs_mean, atol=1e-5)
    np.testing.assert_allclose(a.reward_mean, b.reward_mean, atol=1e-5)


def test_padded_contexts_are_those_they_were():
    model, context = oswm.Ridge(), oswm.Context.of(transitions(150))
    a, b = (predict(model, fit(model, c), context) for c in (context, context.pad(200)))
    np.testing.assert_allclose(a.next_obs_mean, b.next_obs_mean, atol=1e-5)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_order_of_rows_changes_nothing(model):
    data = transitions()
    order = np.random.default_rng(2).permutation(len(data))
    shuffled = jax.tree.map(lambda x: x[order], data)
    queries = oswm.Context.of(transitions(seed=1))
    a, b = (
        predict(model, fit(model, oswm.Context.of(rows)), queries)
        for rows in (data, shuffled)
    )
    np.testing.assert_allclose(a.next_obs_mean, b.next_obs_mean, atol=2e-3)
    np.testing.assert_allclose(a.reward_mean, b.reward_mean, atol=5e-3)


@pytest.mark.parametrize(
    "model",
    [oswm.Ridge(), pytest.param(SMALL, marks=pytest.mark.slow)],  # see inverse_factor
    ids=["ridge", "kernel"],
)
def test_contexts_batch(model):
    contexts = [oswm.Context.of(transitions(seed=seed)) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *contexts)
    caches = jax.jit(jax.vmap(model.fit))(stacked)
    one = fit(model, contexts[1])
    np.testing.assert_allclose(caches.residual[1], one.residual, atol=2e-3)


def test_ridge_is_exact_for_linear_tasks_in_float32():
    """CartPole is nearly linear: 2e-7 by float64 (specification, section 5.4)."""
    task = envs.make("CartPole-v1")
    context, queries = (
        oswm.Context.of(envs.collect(task, 1000, key=key)) for key in (0, 1)
    )
    model = oswm.Ridge()
    found = predict(model, fit(model, context), queries)
    error = np.sum(np.square(found.next_obs_mean - queries.next_obs)) / 1000 / 14
    assert error < 4e-7


def test_kernel_ridge_learns_what_ridge_cannot():
    context = oswm.Context.of(transitions())
    queries = oswm.Context.of(transitions(seed=1))
    errors = {}
    for model in (oswm.Ridge(), SMALL):
        found = predict(model, fit(model, context), queries)
        errors[model] = np.mean(np.square(found.next_obs_mean - queries.next_obs))
    assert errors[SMALL] < 0.03 * errors[oswm.Ridge()]


def test_the_reward_may_depend_on_the_state_that_is_reached():
    data = transitions()
    data = dataclasses.replace(data, reward=-np.abs(data.next_obs[:, 1]))
    queries = transitions(seed=1)
    context = oswm.Context.of(data)
    found = predict(SMALL, fit(SMALL, context), oswm.Context.of(queries))
    error = np.square(found.reward_mean + np.abs(queries.next_obs[:, 1]))
    assert np.mean(error) < 0.02 * np.var(data.reward)


def test_where_a_function_has_a_kink_the_rougher_kernel_is_chosen():
    data = transitions()
    data = dataclasses.replace(data, reward=np.abs(data.obs[:, 0]))
    context = oswm.Context.of(data)
    small = dataclasses.replace(SMALL, num_landmarks=128, length_scales=(1.0, 4.0))
    cache = fit(dataclasses.replace(small, smoothness=tuple(PROFILES)), context)
    chosen = cache.fit.reward.kernel.profile
    np.testing.assert_allclose(chosen, PROFILES["matern52"], rtol=1e-6)
    # 4.4e-3 of the variance; a Gaussian kernel alone has 3.1e-2.
    error = np.mean(np.square(cache.residual[:, -1]))
    assert error < 0.01 * np.var(data.reward)


def test_blocks_are_predicted_by_a_fit_to_all_other_rows():
    """Sixty rows are two blocks of 25 and one of 10."""
    rng = np.random.default_rng(0)
    features, target = rng.normal(size=(60, 4)), rng.normal(size=60)

    def gram(rows):
        return features[rows].T @ features[rows] + 0.1 * np.eye(4)

    def weights(rows):
        return np.linalg.solve(gram(rows), features[rows].T @ target[rows])

    every = np.arange(60)
    half = np.linalg.inv(np.linalg.cholesky(gram(every)))
    fitted = jnp.asarray(target - features @ weights(every), jnp.float32)
    smoother = jnp.asarray(features @ half.T, jnp.float32)
    residual, variance = blocks_left_out(smoother, fitted)
    for start in (0, 25, 50):
        block = every[start : start + 25]
        others = np.setdiff1d(every, block)
        wanted = target[block] - features[block] @ weights(others)
        np.testing.assert_allclose(residual[block], wanted, atol=5e-3)
        spread = features[block] @ np.linalg.inv(gram(others)) * features[block]
        np.testing.assert_allclose(variance[block], 1 + spread.sum(1), rtol=5e-3)


@pytest.mark.parametrize("smoothness", PROFILES)
def test_slopes_of_kernels(smoothness):
    profile = jnp.array(PROFILES[smoothness])
    squares = jnp.linspace(0.01, 9.0, 30)
    slopes = jax.vmap(jax.grad(radial), (0, None))(squares, profile)
    np.testing.assert_allclose(slopes, radial_slope(squares, profile), atol=1e-5)
    assert radial(jnp.zeros(1), profile) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("model", [oswm.Ridge(), SMALL], ids=["ridge", "kernel"])
def test_standard_deviations_are_calibrated(model):
    noise = 0.3 * np.random.default_rng(3).normal(size=(NUM_ROWS, 2))
    data = transitions()
    data = dataclasses.replace(data, next_obs=(data.obs + noise).astype(np.float32))
    context = oswm.Context.of(data)
    found = predict(model, fit(model, context), context)
    np.testing.assert_allclose(np.median(found.next_obs_std), 0.3, rtol=0.15)


def test_uncertainty_grows_away_from_the_context():
    context = oswm.Context.of(transitions())
    far_away = context.replace(obs=context.obs + 20.0)
    for model in MODELS[1:4]:
        cache = fit(model, context)
        near, far = (
            predict(model, cache, rows).next_obs_std.mean(axis=0)
            for rows in (context, far_away)
        )
        assert (far > near).any() and (far >= 0.99 * near).all()


def test_leave_one_out_chooses_per_target():
    data = transitions()
    rough = np.sign(np.sin(25 * data.obs[:, 0]))
    data = dataclasses.replace(data, reward=rough.astype(np.float32))
    models = (oswm.Ridge(), oswm.NearestNeighbours(), oswm.Ridge(quadratic=True))
    model = oswm.LeaveOneOut(models)
    cache = fit(model, oswm.Context.of(data))
    errors = np.stack(
        [
            np.sum(np.square(fit(m, oswm.Context.of(data)).residual), axis=0)
            for m in models
        ]
    )
    _, choice = cache.fit
    assert (np.argmax(choice, axis=0) == np.argmin(errors, axis=0)).all()
    found = np.sum(np.square(cache.residual), axis=0)
    np.testing.assert_allclose(found, errors.min(axis=0), rtol=1e-4)


def test_constant_columns_stay_constant():
    data = transitions()
    obs, next_obs = data.obs.copy(), data.next_obs.copy()
    obs[:, 1] = next_obs[:, 1] = 7.0
    data = dataclasses.replace(
        data, obs=obs, next_obs=next_obs, reward=np.full(200, 0.1, np.float32)
    )
    context = oswm.Context.of(data)
    for model in (oswm.Ridge(), SMALL, oswm.NearestNeighbours()):
        found = predict(model, fit(model, context), context)
        np.testing.assert_allclose(found.next_obs_mean[:, 1], 7.0, atol=1e-6)
        np.testing.assert_allclose(found.reward_mean, 0.1, atol=1e-6)
        assert np.isfinite(found.next_obs_std).all()


@pytest.mark.parametrize("task", ["CartPole-v1", "GridWorld"])
def test_termination_is_learned(task):
    context, queries = (
        oswm.Context.of(envs.collect(envs.make(task), 1000, key=key)) for key in (0, 1)
    )
    model = oswm.Ridge()
    found = predict(model, fit(model, context), queries).terminated_prob > 0.5
    ends = np.asarray(queries.terminated, bool)
    assert np.mean(found[ends]) > 0.9 and np.mean(found[~ends]) < 0.02


def test_no_end_in_the_context_is_no_end_in_the_model():
    context = oswm.Context.of(envs.collect(envs.make("Pendulum-v1"), 200, key=0))
    model = oswm.Ridge()
    found = predict(model, fit(model, context), context)
    assert np.max(found.terminated_prob) < 1e-6


@pytest.mark.parametrize("num_rows", [7, 41, 1000])
def test_the_nearest_rows_are_those_of_a_full_search(num_rows):
    values = jax.random.randint(jax.random.key(0), (20, num_rows), 0, num_rows // 3)
    values = values.astype(jnp.float32).at[:, ::4].set(1e30)
    found = jax.jit(jax.vmap(lambda x: least_rows(x, 5)))(values)
    np.testing.assert_array_equal(found, jax.lax.top_k(-values, 5)[1])


def ends_of(next_obs, terminated):
    """What is learned of rows that reach these observations and end there or not."""
    number = len(next_obs)
    rows = envs.Transitions(
        obs=np.zeros_like(next_obs),
        action=np.arange(number) % 2,
        reward=np.zeros(number, np.float32),
        next_obs=next_obs,
        terminated=terminated,
        truncated=np.zeros(number, bool),
    )
    return jax.jit(Termination.fit)(oswm.Context.of(rows))


@pytest.mark.parametrize("kind", ["above", "below", "both sides"])
def test_two_alike_ends_name_the_threshold_of_one_observation(kind):
    """What else two ends have in common is not the rule."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(400, 3)).astype(np.float32)
    x = np.clip(obs[:, 1], -2, 2) + 5
    if kind == "both sides":
        x = np.clip(obs[:, 1], -2, 2)
    obs[:, 1] = x
    places = {"above": (7.4, 7.4), "below": (2.6, 2.6), "both sides": (2.4, -2.4)}
    obs[[100, 300]] = [[1.5, place, 1.5] for place in places[kind]]
    terminated = np.zeros(400, bool)
    terminated[[100, 300]] = True
    found = ends_of(obs, terminated)
    assert found.is_rule
    asked = np.float32([[-1.5, places[kind][0], -1.5], [1.5, 5.0, 1.5]])
    if kind == "both sides":
        asked = np.float32([[-1.5, -2.3, -1.5], [1.5, 0.0, 1.5]])
    said = jax.vmap(found.probability, (0, None))(asked, np.float32([1, 0]))
    assert said[0] > 0.8 and said[1] < 0.01


def test_ends_that_two_observations_decide_are_no_threshold():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(400, 2)).astype(np.float32)
    terminated = obs.sum(axis=1) > 2
    found = ends_of(obs, terminated)
    assert not found.is_rule
    said = jax.vmap(found.probability, (0, None))(obs, np.float32([1, 0])) > 0.5
    assert np.mean(said == terminated) > 0.98

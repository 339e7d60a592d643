"""Ends of episodes: what they pay, and the rules by which they are told."""

import jax
import numpy as np
import pytest

import envs
import oswm
from oswm import end_rules
from oswm.ends import Ends, take_apart
from oswm.fitting import ends_of
from oswm.termination import Termination

NUM_ROWS = 1000
_pays = jax.jit(jax.vmap(Ends.pay, (None, 0, 0)))


def hunt(seed, num_rows=NUM_ROWS):
    """Two in a field: a catch pays 10, an escape into a corner -5, each step -0.1."""
    rng = np.random.default_rng(seed)
    obs = rng.uniform(0, 10, (num_rows, 4))
    near = rng.uniform(size=num_rows) < 0.1
    obs[near, 2:] = obs[near, :2] + rng.normal(0, 1, (near.sum(), 2))
    after = np.clip(obs + rng.normal(0, 0.2, obs.shape), 0, 10)
    catch = np.linalg.norm(after[:, :2] - after[:, 2:], axis=1) < 0.7
    escape = (np.linalg.norm(after[:, 2:] - 9.5, axis=1) < 1.0) & ~catch
    return envs.Transitions(
        obs=obs.astype(np.float32),
        action=rng.integers(0, 2, num_rows),
        reward=(-0.1 + 10 * catch - 5 * escape).astype(np.float32),
        next_obs=after.astype(np.float32),
        terminated=catch | escape,
        truncated=~(catch | escape),
    )


@pytest.fixture(scope="module")
def rows():
    return hunt(0)


def test_two_kinds_of_ends_pay_their_own(rows):
    context = take_apart(oswm.Context.of(rows))
    np.testing.assert_allclose(context.reward, -0.1, atol=1e-5)
    is_end = np.asarray(rows.terminated)
    np.testing.assert_allclose(
        np.asarray(context.end_pay), np.asarray(rows.reward) + 0.1, atol=1e-5
    )
    assert (np.asarray(context.end_kind)[is_end] == (rows.reward[is_end] > 0)).all()


def test_a_catch_is_a_distance_and_an_escape_a_region_of_two_columns(rows):
    """A dozen ends are few for a quadratic form of all columns."""
    assert 10 < np.asarray(rows.terminated).sum() < 60
    fit = jax.jit(Termination.fit)
    found = fit(take_apart(oswm.Context.of(rows)))
    assert np.asarray(found.is_rule).tolist() == [False, True]
    others = hunt(1, 4000)
    context = oswm.Context.of(others)
    said = np.asarray(jax.vmap(found.logit)(context.next_obs, context.action)) > 0
    is_end = np.asarray(others.terminated)
    catch = np.asarray(others.reward) > 0
    assert said[catch].mean() > 0.9
    assert said[is_end].mean() > 0.7
    assert said[~is_end].mean() < 0.005


def test_ends_by_chance_are_not_told_from_others():
    """A hundred rows that end by chance say how often, not where."""
    rows = hunt(2)
    by_chance = np.random.default_rng(0).uniform(size=NUM_ROWS) < 0.05
    rows = rows.replace(
        terminated=by_chance, truncated=~by_chance, reward=np.ones(NUM_ROWS, np.float32)
    )
    context = take_apart(oswm.Context.of(rows))
    assert context.end_pay is None
    found = jax.jit(Termination.fit)(context)
    assert not found.is_certain and not found.is_rule
    others = oswm.Context.of(hunt(3))
    chance = jax.vmap(found.probability)(others.next_obs, others.action)
    assert 0.02 < np.mean(chance) < 0.1
    assert np.quantile(chance, 0.99) < 0.3


def test_what_an_end_pays_may_depend_on_where_it_is():
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (900, 2)).astype(np.float32)
    ends = obs[:, 0] > 0.8
    rows = envs.Transitions(
        obs=obs,
        action=np.arange(900) % 4,
        reward=np.where(ends, 20 + 10 * obs[:, 1], 0).astype(np.float32),
        next_obs=obs,
        terminated=ends,
        truncated=~ends,
    )
    context = take_apart(oswm.Context.of(rows))
    pays = _pays(ends_of(context), context.next_obs, context.action)
    np.testing.assert_allclose(pays[ends], (20 + 10 * obs[:, 1])[ends], atol=0.5)


def test_parts_of_a_log_say_how_well_ends_are_known(rows):
    settings = {"model": oswm.Ridge(), "initial_obs": "context", "max_steps": 10}
    _, params = oswm.condition_worlds(rows, 3, **settings)
    is_end = np.asarray(rows.terminated)
    spread = np.var(np.asarray(rows.reward)[is_end]) * is_end.mean()
    assert params.end_pay_error < 0.2 * spread
    by_chance = np.random.default_rng(0).permutation(np.asarray(rows.reward)[is_end])
    reward = np.full(NUM_ROWS, -0.1, np.float32)
    reward[is_end] = by_chance
    unknown = oswm.condition_worlds(rows.replace(reward=reward), 3, **settings)[1]
    assert unknown.end_pay_error > 0.6 * spread
    drawn = oswm.draw_world(params, jax.random.key(0), 0)
    assert drawn.ends.low.shape == params.ends.low.shape == (2,)


def test_ends_of_a_grid_pay_what_they_did():
    """Each region is told from steps that go on; holes and a goal may lie in both."""
    rng = np.random.default_rng(0)
    place = rng.integers(0, 7, (900, 2))
    move = rng.integers(0, 4, 900)
    steps = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    after = np.clip(place + steps[move], 0, 6)
    goal = (after == [6, 3]).all(axis=1)
    hole = (after[:, 0] == 4) & (after[:, 1] > 1)
    rows = envs.Transitions(
        obs=place.astype(np.float32),
        action=move,
        reward=(10.0 * goal - 10.0 * hole).astype(np.float32),
        next_obs=after.astype(np.float32),
        terminated=goal | hole,
        truncated=~(goal | hole),
    )
    context = take_apart(oswm.Context.of(rows))
    found = _pays(ends_of(context), context.next_obs, context.action)[goal | hole]
    np.testing.assert_allclose(found, rows.reward[goal | hole], atol=0.5)


@pytest.mark.parametrize("size", [1, 2, 25, 100])
def test_rules_of_few_and_of_many_observations(size):
    """Pairs of a hundred observations would be too many to hold."""
    linear, squares, is_simple = end_rules._combinations(size)
    assert linear.shape == squares.shape == (len(is_simple), squares.shape[1])
    assert is_simple[: 3 * size].all() and not is_simple[3 * size :].any()
    assert squares.size < 1e6

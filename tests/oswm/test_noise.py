"""What happens by chance: steps between states that can be counted, and ends."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oswm
from envs import Transitions
from oswm.support import Support

NUM_STATES, SLIP = 6, 0.3
# Its reward may look at the next observation.
SMALL = oswm.KernelRidge(num_landmarks=32, num_screening=16, length_scales=(1.0,))


def log_of(obs, action, next_obs, reward=None, terminated=None) -> Transitions:
    number = len(obs)
    reward = np.zeros(number) if reward is None else reward
    no = np.zeros(number, bool)
    terminated = no if terminated is None else terminated
    return Transitions(
        np.float32(obs),
        action,
        np.float32(reward),
        np.float32(next_obs),
        terminated,
        ~no & ~terminated,  # Every row is an episode of its own.
    )


@pytest.fixture(scope="module")
def ring():
    """Round a ring of six states, by ones and zeros; three in ten steps go back."""
    rng = np.random.default_rng(0)
    state, action = rng.integers(0, NUM_STATES, 1000), rng.integers(0, 2, 1000)
    slips = rng.random(1000) < SLIP
    after = (state + np.where((action == 1) ^ slips, 1, -1)) % NUM_STATES
    eye = np.eye(NUM_STATES)
    return log_of(eye[state], action, eye[after], 10.0 * (after == 0), after == 3)


def drawn(pair, obs, action, number=2000):
    """Steps from one observation: next observations, rewards and ends."""
    env, params = pair
    _, state = env.reset(jax.random.key(0), params)
    state = state.replace(obs=jnp.asarray(obs, jnp.float32))
    keys = jax.random.split(jax.random.key(1), number)
    step = jax.jit(jax.vmap(env.step_env, (0, None, None, None)))
    obs, _, reward, terminated, _ = step(keys, state, action, params)
    return np.asarray(obs), np.asarray(reward), np.asarray(terminated)


def test_steps_between_states_are_drawn_as_rows_of_the_state_have_it(ring):
    """The model knows no interaction of state and action: rows do."""
    pair = oswm.condition(ring, model=oswm.Ridge(), uncertainty_penalty=0.0)
    for state, action in ((0, 1), (1, 0), (2, 1)):
        obs, reward, terminated = drawn(pair, np.eye(NUM_STATES)[state], action)
        assert set(obs.ravel()) == {0.0, 1.0} and (obs.sum(axis=1) == 1).all()
        after = obs.argmax(axis=1)
        on, back = (state + (1, -1)[action == 0]), (state - (1, -1)[action == 0])
        assert set(after) == {on % NUM_STATES, back % NUM_STATES}
        rows = (ring.obs.argmax(axis=1) == state) & (ring.action == action)
        share = (ring.next_obs[rows].argmax(axis=1) == on % NUM_STATES).mean()
        assert abs((after == on % NUM_STATES).mean() - share) < 0.04
        assert abs(share - (1 - SLIP)) < 0.15
        # Reward and end are those of the state that is reached.
        np.testing.assert_allclose(reward, 10.0 * (after == 0), atol=1e-3)
        np.testing.assert_array_equal(terminated, after == 3)


def test_a_place_that_the_log_has_not_left_in_this_way_borrows_from_others():
    """Two queues: no row has this length, all say how many arrive."""
    rng = np.random.default_rng(1)
    obs, action = rng.integers(0, 40, (1000, 2)), rng.integers(0, 2, 1000)
    obs[:, 0] += obs[:, 0] >= 20  # Never 20.
    served = np.eye(2, dtype=int)[action] * (obs > 0)
    after = obs - served + (rng.random((1000, 2)) < (0.3, 0.4))
    rows = log_of(obs, action, after, -after.sum(axis=1))
    pair = oswm.condition(rows, model=oswm.Ridge(), uncertainty_penalty=0.0)
    found, reward, _ = drawn(pair, (20, 20), 0)
    change = found - 20
    # Rows of an empty queue, from which nobody leaves, are borrowed from, too.
    assert np.isin(change[:, 0], (-1, 0)).mean() > 0.95
    assert np.isin(change[:, 1], (0, 1)).mean() > 0.95
    np.testing.assert_allclose(change.mean(axis=0), [-0.7, 0.4], atol=0.12)
    np.testing.assert_allclose(reward.mean(), -found.sum(axis=1).mean(), atol=0.3)
    assert abs(np.corrcoef(reward, found.sum(axis=1))[0, 1]) > 0.9


def test_changes_are_drawn_where_a_model_does_not_know_what_they_depend_on():
    """Steps of 1 or 3, to where only the parity of the state says: a line fits none."""
    rng = np.random.default_rng(7)
    obs, action = rng.integers(0, 8, (1000, 1)), rng.integers(0, 2, 1000)
    up = np.where(rng.random(1000) < 0.5, 1, 3) * np.where(obs[:, 0] % 2, 1, -1)
    rows = log_of(obs, action, obs + up[:, None])
    pair = oswm.condition(rows, model=oswm.Ridge(), uncertainty_penalty=0.0)
    for state, wanted in ((3, {1, 3}), (4, {-3, -1})):
        found = drawn(pair, (state,), 0)[0][:, 0] - state
        assert np.isin(found, list(wanted)).mean() > 0.95
        assert abs((found == max(wanted)).mean() - 0.5) < 0.15


def test_without_chance_nothing_is_drawn(ring):
    """Also where a model rounds to the right state in all rows."""
    state, action = ring.obs.argmax(axis=1), np.asarray(ring.action)
    next_obs = np.eye(NUM_STATES)[(state + 1) % NUM_STATES]
    certain = log_of(ring.obs, action, next_obs)
    assert oswm.condition(certain, model=oswm.Ridge())[1].noise is None
    for sample in (False, True):
        _, params = oswm.condition(ring, model=oswm.Ridge(), sample=sample)
        assert params.noise is None


def test_an_end_that_knows_no_chance_is_none_before_its_edge():
    """However long an agent waits beside it."""
    rng = np.random.default_rng(8)
    obs = rng.uniform(-10, 9.5, (1000, 2))
    after = obs + 0.5
    ends = after.sum(axis=1) > 12  # No threshold of one observation.
    rows = log_of(obs, rng.integers(0, 2, 1000), after, terminated=ends)
    pair = oswm.condition(rows, model=oswm.Ridge())
    for place, wanted in (((5.0, 5.0), False), ((6.5, 6.5), True)):
        assert (drawn(pair, place, 0)[2] == wanted).all()


def test_ends_happen_as_often_as_they_did():
    rng = np.random.default_rng(2)
    obs = rng.normal(size=(1000, 1))
    action = rng.integers(0, 2, 1000)
    ends = rng.random(1000) < np.where(action == 1, 0.3, 0.02)
    rows = log_of(obs, action, obs + 0.1, terminated=ends)
    pair = oswm.condition(rows, model=oswm.Ridge())
    shares = [drawn(pair, (0.0,), action)[2].mean() for action in (0, 1)]
    np.testing.assert_allclose(shares, [0.02, 0.3], atol=0.06)
    means = oswm.condition(rows, model=oswm.Ridge(), sample=False)
    assert not drawn(means, (0.0,), 1, 10)[2].any()


@pytest.mark.parametrize("parts", [False, True], ids=["one model", "of parts"])
def test_ends_and_rewards_are_those_of_what_was_drawn(parts):
    """On average these steps stay where they are, and one in three is paid and ends."""
    model = oswm.SubContexts(SMALL, num_members=2, fraction=0.9) if parts else SMALL
    rng = np.random.default_rng(6)
    obs = rng.uniform(-1, 1, (1000, 1))
    after = obs + 0.3 * rng.normal(size=(1000, 1))
    over = after[:, 0] > 1
    rows = log_of(obs, rng.integers(0, 2, 1000), after, after[:, 0] ** 2, over)
    pair = oswm.condition(rows, model=model, uncertainty_penalty=0.0)
    found, reward, ends = drawn(pair, (0.9,), 0)
    np.testing.assert_allclose(found.std(), 0.3, rtol=0.15)
    np.testing.assert_allclose(ends.mean(), 0.37, atol=0.06)
    assert found[ends].min() > 0.97 and found[~ends].max() < 1.03
    near = found[:, 0] < 1.5  # Farther ones are no more than the log has paid.
    np.testing.assert_allclose(reward[near], found[near, 0] ** 2, atol=0.1)


def test_chance_is_no_reason_to_stay_away(ring):
    """Only what is less sure than the rows themselves costs the penalty."""
    noise = np.random.default_rng(3).normal(size=(1000, 1))
    obs = np.random.default_rng(4).uniform(-1, 1, (1000, 1))
    rows = log_of(obs, np.zeros(1000, int), obs + 0.5 * noise, np.ones(1000))
    rows = dataclasses.replace(rows, action=np.arange(1000) % 2)
    pair = oswm.condition(rows, model=oswm.Ridge(quadratic=True), sample=False)
    np.testing.assert_allclose(drawn(pair, (0.1,), 0, 3)[1], 1.0, atol=0.03)


def test_grids_are_kept_and_measurements_are_not_taken_for_one():
    rng = np.random.default_rng(5)
    tenths = rng.integers(0, 41, 400) / 40
    rounded = np.round(rng.uniform(-1, 1, 400), 2)
    obs = np.column_stack([tenths, rounded, rng.normal(size=400)])
    rows = log_of(obs, rng.integers(0, 2, 400), obs[rng.permutation(400)])
    support = jax.jit(Support.of)(oswm.Context.of(rows), 0.0)
    np.testing.assert_allclose(support.step, [0.025, 0, 0], atol=1e-6)
    found = jax.jit(Support.project)(support, np.float32([0.51, 0.123, 0.123]))
    np.testing.assert_allclose(found, [0.5, 0.123, 0.123], atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Walk:
    """A model of one's own: steps of deviation 1; reward and end are told later."""

    def fit(self, context):
        return jnp.zeros(1)

    def predict(self, cache, obs, action):
        zero = jnp.float32(0)
        return oswm.Prediction(obs, 1.0 + jnp.zeros_like(obs), zero, zero, zero)

    def sample(self, cache, obs, action, key):
        return self.predict(cache, obs, action).sample(key)


class Told(Walk):
    def outcome(self, cache, obs, action, next_obs, prediction):
        return next_obs[0], 1.0 * (next_obs[0] > 0)


def test_a_model_of_ones_own_is_asked_about_what_was_drawn():
    rng = np.random.default_rng(9)
    obs = rng.normal(size=(500, 1)) * 3
    rows = log_of(obs, rng.integers(0, 2, 500), obs[::-1], obs[:, 0])
    options = {"max_steps": 9, "initial_obs": "context", "uncertainty_penalty": 0.0}
    found, reward, ends = drawn(oswm.condition(rows, model=Told(), **options), (0,), 0)
    np.testing.assert_allclose(reward, found[:, 0], atol=1e-5)
    np.testing.assert_array_equal(ends, found[:, 0] > 0)
    _, reward, ends = drawn(oswm.condition(rows, model=Walk(), **options), (0,), 0)
    assert (reward == 0).all() and not ends.any()

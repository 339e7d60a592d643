"""Our prior: each family shows its property on what it draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from oswm.prior import chaos, default, grid, mechanics, outcomes, smooth
from oswm.prior.actions import init_actions
from oswm.prior.dataset import MAX_STATES
from oswm.prior.draws import Draws
from oswm.prior.sine import sine


def draw(key, function, number, *args):
    """A batch of systems, each from draws of its own."""
    return jax.jit(jax.vmap(lambda k: function(Draws(k, 8192), *args)))(
        jax.random.split(key, number)
    )


def unroll(step, state, actions):
    """States [T + 1, ...] of one system under actions [T, ...]."""

    def body(state, action):
        new = step(state, action)
        return new, new

    _, states = jax.lax.scan(body, state, actions)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), state, states)


@pytest.fixture(scope="module")
def systems():
    return draw(jax.random.key(0), mechanics.init_mechanics, 64, 4)


@pytest.fixture(scope="module")
def paths(systems):
    """Positions and velocities [64, 101, 2, 4] without any action."""

    @jax.jit
    @jax.vmap
    def one(key, system):
        start = mechanics.reset_mechanics(jax.random.uniform(key, (2, 4)), system)
        still = jnp.zeros((100, mechanics.NUM_COORDINATES + 2))
        return unroll(lambda s, a: mechanics.step_mechanics(system, s, a), start, still)

    return np.asarray(one(jax.random.split(jax.random.key(1), 64), systems))


def test_steps_are_small_and_time_steps_log_uniform(systems, paths):
    steps = np.asarray(systems.time_step)
    assert 0.01 <= steps.min() < 0.02 and 0.1 < steps.max() <= 0.2
    moved = np.abs(np.diff(paths[:, :, 0], axis=1))
    moved = np.minimum(moved, 2 * np.pi - moved)  # angles wrap
    limit = (systems.time_step[:, None] * systems.max_speed)[:, None]
    assert (moved <= limit * 1.001 + 1e-5).all()


def test_walls_hold_and_throw_back(systems, paths):
    wall = np.asarray(systems.wall)[:, None]
    position, velocity = paths[:, 1:, 0], paths[:, 1:, 1]
    assert (np.abs(position) <= wall + 1e-6).all()
    touched = np.abs(position) == wall
    assert touched.any()
    assert (position * velocity <= 0)[touched].all()  # never further outwards
    elastic = np.broadcast_to(np.asarray(systems.elasticity)[:, None], touched.shape)
    assert (velocity[touched & (elastic == 0)] == 0).all()


def test_friction_stops_motion():
    system = jax.tree.map(
        lambda x: x[0], draw(jax.random.key(2), mechanics.init_mechanics, 1, 4)
    )
    system = system.replace(
        field=jnp.zeros(4, int),
        coupling=jnp.zeros((4, 4)),
        friction=jnp.array([1.0, 1.0, 0.0, 0.0]),
        damping=jnp.array([0.0, 0.0, 0.5, 0.0]),
        wall=jnp.full(4, jnp.inf),
        max_speed=jnp.full(4, 10.0),
        time_step=jnp.float32(0.1),
    )
    start = jnp.stack([jnp.zeros(4), jnp.ones(4)])
    path = jax.jit(
        lambda system: unroll(
            lambda s, a: mechanics.step_mechanics(system, s, a),
            start,
            jnp.zeros((50, 6)),
        )
    )(system)
    velocity = np.asarray(path[:, 1])
    assert (velocity[-1, :2] == 0).all()  # dry friction: to rest, in finite time
    assert 0 < velocity[-1, 2] < 0.2  # damping: ever slower
    assert velocity[-1, 3] == 1


def test_angles_are_on_the_circle_or_wrapped(systems, paths):
    observe = jax.jit(jax.vmap(jax.vmap(mechanics.observe_mechanics, (None, 0))))
    seen = np.asarray(observe(systems, paths)).reshape(64, 101, 4, 3)
    circle = np.asarray(systems.shows_circle)
    radius = np.square(seen[..., :2]).sum(-1)
    np.testing.assert_allclose(np.moveaxis(radius, 1, 2)[circle], 1, atol=1e-5)
    angle = np.asarray(systems.is_angle) & ~circle
    assert angle.any() and circle.any()
    assert np.abs(np.moveaxis(seen[..., 0], 1, 2)[angle]).max() <= np.pi + 1e-5


def test_control_multiplies_in_some_systems(systems):
    """The effect of an action depends on the position exactly where it should."""
    state = np.zeros((2, 2, 4), np.float32)
    state[1, 0] = 1.0
    free = systems.replace(
        friction=np.zeros((64, 4), np.float32),
        max_speed=np.full((64, 4), 1e6, np.float32),
        wall=np.full((64, 4), np.inf, np.float32),
    )
    push = np.ones(mechanics.NUM_COORDINATES + 2, np.float32)

    @jax.jit
    def velocity(state, effect):
        new = jax.vmap(lambda s: mechanics.step_mechanics(s, state, effect))(free)
        return new[:, 1]

    def gain(state):
        return np.asarray(velocity(state, push) - velocity(state, 0 * push))

    at_zero, at_one = (gain(s) for s in state)
    multiplies = np.asarray(systems.multiplies)
    ratio = at_one / at_zero
    np.testing.assert_allclose(ratio[multiplies], np.cos(1.0), rtol=2e-3)
    np.testing.assert_allclose(ratio[~multiplies], 1, rtol=2e-3)


def test_smooth_systems_step_little_or_forget():
    found = draw(jax.random.key(3), smooth.init_smooth, 256, 8, jnp.zeros(2, bool))
    step = np.asarray(found.step)
    assert np.quantile(step, 0.05) < 0.02 and np.quantile(step, 0.95) > 0.5
    z = np.full((256, 8), 0.1, np.float32)
    zeros = [np.zeros((256, size), np.float32) for size in (2, 6)]
    new = jax.jit(jax.vmap(smooth.step_smooth))(found, z, *zeros)
    moved = np.abs(np.asarray(new - z)).mean(1)
    assert np.corrcoef(np.log(step), np.log(moved))[0, 1] > 0.8


def test_some_smooth_systems_do_not_contract():
    found = draw(jax.random.key(4), smooth.init_smooth, 128, 8, jnp.zeros(2, bool))

    def linear(system):
        def step(z):
            return smooth.step_smooth(system, z, jnp.zeros(2), jnp.zeros(6))

        return jax.jacobian(step)(jnp.full(8, 0.05))

    jacobians = np.asarray(jax.jit(jax.vmap(linear))(found))
    radius = np.abs(np.linalg.eigvals(jacobians)).max(1)
    assert (radius > 1.02).mean() > 0.2
    assert (np.abs(np.linalg.det(jacobians)) < 0.98).mean() > 0.2


def test_chaos_separates_neighbours_and_stays_bounded():
    rings = draw(jax.random.key(5), chaos.init_chaos, 32)

    @jax.jit
    @jax.vmap
    def one(key, ring):
        start = chaos.reset_chaos(jax.random.uniform(key, (8,)), ring)
        still = jnp.zeros((600, 6))

        def path(start):
            return unroll(lambda s, a: chaos.step_chaos(ring, s, a), start, still)

        return path(start), path(start + 1e-3 * ring.is_used)

    first, second = one(jax.random.split(jax.random.key(6), 32), rings)
    apart = np.linalg.norm(np.asarray(first - second), axis=-1)
    assert (apart[:, -1] > 100 * apart[:, 0]).mean() > 0.5
    assert np.abs(first).max() <= 30


def test_grid_worlds_have_cells_and_walls():
    worlds = draw(jax.random.key(7), grid.init_grid, 128)

    @jax.jit
    @jax.vmap
    def one(key, world):
        start = grid.reset_grid(jax.random.uniform(key, (3,)), world)
        actions = jax.nn.one_hot(jax.random.randint(key, (50,), 0, 6), 6)
        u = jax.random.uniform(key, (50, 2))
        return unroll(
            lambda s, x: grid.step_grid(x[0], world, s, x[1]), start, (u, actions)
        )

    cells = np.asarray(one(jax.random.split(jax.random.key(8), 128), worlds))
    assert (cells == np.round(cells)).all()
    assert (cells >= 0).all() and (cells < np.asarray(worlds.size)[:, None]).all()
    index = cells[:, 1:].astype(int)
    inside = np.asarray(worlds.is_wall)[
        np.arange(128)[:, None], index[..., 0], index[..., 1], index[..., 2]
    ]
    stayed = (cells[:, 1:] == cells[:, :-1]).all(-1)
    assert stayed[inside].all()  # one may start in a wall, never enter one


def test_actions_of_both_kinds():
    spaces = draw(jax.random.key(9), init_actions, 256)
    u = jax.random.uniform(jax.random.key(10), (256, 6), minval=-1.0)
    vectors = np.asarray(jax.jit(jax.vmap(lambda a, x: a.vector(x)))(spaces, u))
    discrete = np.asarray(spaces.is_discrete)
    assert 0.35 < discrete.mean() < 0.65
    assert (vectors[discrete].sum(1) == 1).all()
    bound = np.asarray(spaces.bound)[:, None]
    assert (np.abs(vectors) <= bound + 1e-6)[~discrete].all()
    used = np.asarray(jax.jit(jax.vmap(lambda a: a.is_used))(spaces))
    assert (vectors[~used] == 0).all()
    assert set(np.asarray(spaces.number)[discrete]) == {2, 3, 4, 5, 6}


@pytest.fixture(scope="module")
def batch():
    return jax.jit(default.draw_batch, static_argnums=(1, 2, 3))(
        jax.random.key(11), 64, 64, 32
    )


def test_datasets_look_like_those_of_users(batch):
    rows = jax.device_get(batch.rows)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(rows))
    context = rows.mask[:, :64].sum(1)
    assert len(set(context)) > 10 and context.max() == 64  # lengths vary
    terminated = (rows.terminated * rows.mask).sum(1)
    assert 0.2 < (terminated > 0).mean() < 0.9  # some tasks end episodes, some never
    sizes = batch.obs_mask.sum(1)
    assert sizes.min() >= 1 and sizes.max() > 6
    unused = np.asarray(batch.obs_mask)[:, None] == 0
    assert (rows.obs * unused == 0).all() and (rows.next_obs * unused == 0).all()
    spread = rows.obs.std(1)[np.asarray(batch.obs_mask) > 0]
    assert np.log10(spread[spread > 0]).std() > 0.7  # units are arbitrary


def test_rewards_are_of_many_kinds(batch):
    rows = jax.device_get(batch.rows)
    distinct = [
        len(np.unique(np.round(r[m > 0], 6)))
        for r, m in zip(rows.reward, rows.mask, strict=True)
        if m.sum() > 20
    ]
    distinct = np.array(distinct)
    assert (distinct == 1).any()  # constant
    assert ((distinct > 1) & (distinct <= 4)).any()  # sparse, or with an end's bonus
    assert (distinct > 20).mean() > 0.4  # costs and networks


def test_stochastic_transitions():
    """The same step twice: some systems are deterministic, some are not."""
    key = jax.random.key(12)

    def one(key):
        draws = Draws(key, 8192)
        params, _ = default.CONTINUOUS.init(draws)
        state = default.CONTINUOUS.reset(draws.uniform(shape=(16,)), params)
        effect = jnp.zeros(6)
        new = [
            default.CONTINUOUS.observe(
                params,
                default.CONTINUOUS.step(
                    draws.uniform(shape=(12,)), params, state, effect, effect
                ),
            )[0]
            for _ in range(2)
        ]
        return jnp.any(new[0] != new[1])

    noisy = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, 200)))
    assert 0.12 < noisy.mean() < 0.4


def test_cost_rewards_are_exact_functions_of_the_features():
    """Rewards with one seed are computed twice: they hold no hidden randomness."""
    features = jax.random.normal(jax.random.key(13), (3, 50, 20))
    after = features + 0.1
    mask = jnp.ones(20, bool)
    effect = jnp.zeros((3, 50, 6))

    def run(key):
        return outcomes.draw_outcomes(Draws(key, 4096), features, after, mask, effect)

    keys = jax.random.split(jax.random.key(14), 64)
    twice = jax.jit(jax.vmap(run))
    first, second = (twice(keys) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    ends = np.asarray(first[1]).mean((1, 2))
    assert 0.3 < (ends > 0).mean() < 0.8 and np.median(ends[ends > 0]) < 0.2


def test_the_cheap_sine_is_a_sine():
    x = np.linspace(-1000, 1000, 100_001, dtype=np.float32)
    np.testing.assert_allclose(sine(x), np.sin(x.astype(np.float64)), atol=1e-5)


def test_too_few_datasets_are_refused():
    with pytest.raises(ValueError, match="num_datasets"):
        default.draw_batch(jax.random.key(0), 2, 8, 8)
    assert MAX_STATES >= 16

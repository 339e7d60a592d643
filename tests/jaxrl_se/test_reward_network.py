"""Reward networks: golden vectors, invariance, spaces, kinds, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from continuous_probe import ContinuousProbe
from flax import struct
from golden import sine_weights
from gymnax.environments import environment, spaces

import envs
import jaxrl_se
from jaxrl_se import DDQN, EvolutionConfig, QLearning, RewardConfig, Spaces, train
from jaxrl_se.reward_network import KINDS, RewardParams

CARTPOLE = envs.make("CartPole-v0")
CLIFF = envs.make("Cliff")


def golden_weights(network):
    """The fill of the reference, where the PReLU slope is a tensor of its own."""
    hidden, output = sine_weights(network)
    k = np.arange(output["kernel"].size)
    kernel = (0.1 * np.sin(k + 1 + 300)).astype(np.float32).reshape(1, -1)
    bias = np.array([0.1 * np.sin(1 + 400)], np.float32)
    return hidden, {"kernel": kernel, "bias": bias}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("exclusive-potential", -0.004886),
        ("additive-potential", 0.995114),
        ("exclusive", -0.00311),
        ("additive", 0.99689),
    ],
)
def test_golden_rewards(kind, expected):
    """Made with the code of Ferreira et al. (2022)."""
    env, params = RewardConfig(kind, obs_range=None).make(*CARTPOLE, discount=0.99)
    params = params.replace(weights=golden_weights(env.network))
    obs = jnp.array([0.01, 0.02, 0.03, 0.04])
    next_obs = jnp.array([0.02, 0.1, 0.03, -0.2])
    reward = env.reward(params, obs, next_obs, 1.0, jnp.bool_(False), {})
    np.testing.assert_allclose(reward, expected, atol=2e-6)


def test_a_quadratic_form_of_the_state(tmp_path):
    """A linear network of observations and their products, scaled, saved, loaded."""
    pair = envs.make("MountainCarContinuous-v0")
    config = RewardConfig("exclusive", (), quadratic=True, obs_range=None, scale=0.1)
    env, params = config.make(*pair)
    kernel = jnp.array([[1.0, 2.0, 3.0, 4.0, 5.0]])  # x, v, x x, x v, v v
    weights = ({"kernel": kernel, "bias": jnp.array([0.5])},)
    path = jaxrl_se.save(
        tmp_path / "form.npz", env, params.replace(weights=weights), task=pair[0].name
    )
    env, params = jaxrl_se.load(path)
    x, v = 0.3, -0.2
    expected = 0.1 * (0.5 + x + 2 * v + 3 * x * x + 4 * x * v + 5 * v * v)
    reward = env.reward(params, jnp.zeros(2), jnp.array([x, v]), 9.0, False, {})
    np.testing.assert_allclose(reward, expected, rtol=1e-6)
    obs = jnp.array([[x, v], [0.0, 0.0]])
    np.testing.assert_allclose(env.potential(params, obs), [expected, 0.05], rtol=1e-6)


@struct.dataclass
class MazeParams(environment.EnvParams):
    """A random task: tables `next[s, a]` and `reward[s, a]`; the last state ends it."""

    next: jax.Array = None
    reward: jax.Array = None
    max_steps_in_episode: int = 1000


@struct.dataclass
class MazeState(environment.EnvState):
    position: jax.Array


class Maze(environment.Environment):
    """Five states, three actions, and an info vector of three numbers per step."""

    def __eq__(self, other):
        return isinstance(other, Maze)

    def __hash__(self):
        return 0

    @property
    def default_params(self):
        rng = np.random.default_rng(0)
        return MazeParams(
            next=jnp.asarray(rng.integers(0, 5, (5, 3))),
            reward=jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
        )

    def action_space(self, params=None):
        return spaces.Discrete(3)

    def observation_space(self, params=None):
        return envs.OneHot(5)

    def reset_env(self, key, params):
        state = MazeState(time=jnp.int32(0), position=jax.random.randint(key, (), 0, 4))
        return jax.nn.one_hot(state.position, 5), state

    def step_env(self, key, state, action, params):
        reward = params.reward[state.position, action]
        position = params.next[state.position, action]
        info = {"speed": jnp.stack([reward, 2.0]), "discount": 1.0, "bump": reward > 0}
        state = MazeState(time=state.time + 1, position=position)
        return jax.nn.one_hot(position, 5), state, reward, position == 4, info


def tabular(env, params, inner):
    """The rewards `[4, 3]` that a pair pays, by `step_env` in every state."""

    def one(position, action):
        state = MazeState(time=jnp.int32(0), position=position)
        if inner:
            obs = jax.nn.one_hot(position, 5)
            state = jaxrl_se.reward_network.RewardState(
                time=jnp.int32(0), state=state, obs=obs
            )
        return env.step_env(jax.random.key(0), state, action, params)[2]

    positions, actions = jnp.arange(4), jnp.arange(3)
    each = jax.vmap(lambda s: jax.vmap(lambda a: one(s, a))(actions))
    return np.asarray(jax.jit(each)(positions))


def action_values(rewards, nexts, discount):
    """Q*, `[4, 3]`, by value iteration in float64; state 4 is the end."""
    q = np.zeros((5, 3))
    for _ in range(2000):
        q[:4] = np.asarray(rewards, np.float64) + discount * q.max(axis=1)[nexts[:4]]
    return q[:4]


def best_actions(rewards, nexts, discount):
    q = action_values(rewards, nexts, discount)
    return q >= q.max(axis=1, keepdims=True) - 1e-4


@pytest.mark.parametrize("seed", range(8))
def test_additive_potential_keeps_the_optimal_policy(seed):
    """For random tasks and random potentials (Ng et al., 1999)."""
    rng = np.random.default_rng(seed)
    nexts = rng.integers(0, 5, (5, 3))
    reward = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    maze, maze_params = Maze(), MazeParams(next=jnp.asarray(nexts), reward=reward)
    discount = float(rng.uniform(0.5, 0.95))
    plain = tabular(maze, maze_params, inner=False)
    best = best_actions(plain, nexts, discount)
    changed = {}
    for zero in (True, False):
        config = RewardConfig("additive-potential", (), zero_at_termination=zero)
        env, params = config.make(maze, maze_params, discount)
        weights = jax.tree.map(
            lambda x: 10 * jax.random.normal(jax.random.key(seed), x.shape),
            params.weights,
        )
        shaped = tabular(env, params.replace(weights=weights), inner=True)
        assert not np.allclose(shaped, plain, atol=0.5)  # it does shape
        changed[zero] = (best_actions(shaped, nexts, discount) != best).any()
        if zero:  # and Q* changes by minus the potential of the state
            potential = env.potential(params.replace(weights=weights), jnp.eye(5))
            expected = action_values(plain, nexts, discount) - potential[:4, None]
            found = action_values(shaped, nexts, discount)
            np.testing.assert_allclose(found, expected, atol=1e-3)
    assert not changed[True]


def test_without_zero_at_termination_the_optimal_policy_changes():
    """The reference's shaping pays for ending in a state of high potential."""
    nexts = np.array([[4, 0, 0]] + [[4, 4, 4]] * 4)
    reward = jnp.zeros((5, 3)).at[0, 0].set(-1.0).at[0, 1:].set(0.1)
    maze, maze_params = Maze(), MazeParams(next=jnp.asarray(nexts), reward=reward)
    best = {}
    for zero in (True, False):
        config = RewardConfig("additive-potential", (), zero_at_termination=zero)
        env, params = config.make(maze, maze_params, 0.9)
        kernel = jnp.zeros((1, 5)).at[0, 4].set(100.0)
        weights = ({"kernel": kernel, "bias": jnp.zeros(1)},)
        rewards = tabular(env, params.replace(weights=weights), inner=True)
        best[zero] = best_actions(rewards, nexts, 0.9)[0].tolist()
    assert best == {True: [False, True, True], False: [True, False, False]}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds(kind):
    """What is paid is the formula of the kind, and everything else is the task's."""
    env, params = RewardConfig(kind, (3,)).make(Maze(), Maze().default_params, 0.8)
    assert env.config.info_keys == (("bump", "speed") if "info" in kind else None)
    obs, state = env.reset(jax.random.key(1), params)
    action = jnp.int32(1)
    next_obs, _, reward, terminated, info = env.step_env(
        jax.random.key(2), state, action, params
    )
    task_reward = info["task_reward"]
    features = [jnp.float32([task_reward > 0]), info["speed"]] if "info" in kind else []
    if kind.endswith("only"):
        learned = params.weights @ jnp.concatenate(features)
    else:
        after, before = (
            env.network(params.weights, jnp.concatenate([x, *features]))[0]
            for x in (next_obs, obs)
        )
        learned = after
        if "potential" in kind:
            learned = 0.8 * after * (1 - terminated) - before
    expected = learned + task_reward * kind.startswith("additive")
    np.testing.assert_allclose(reward, expected, rtol=1e-5)
    assert Spaces.of(env, params) == Spaces.of(env.target, params.target_params)
    again, _ = RewardConfig(kind, (3,)).make(Maze(), Maze().default_params)
    assert again == env and hash(again) == hash(env)
    other, _ = RewardConfig(kind, (4,)).make(Maze(), Maze().default_params)
    assert other != env


def test_dynamics_and_time_limit_are_the_tasks():
    env, params = RewardConfig("exclusive").make(*CARTPOLE)
    key = jax.random.key(3)
    (obs, state), (task_obs, task_state) = (
        e.reset(key, p) for e, p in ((env, params), CARTPOLE)
    )
    np.testing.assert_array_equal(obs, task_obs)
    for time in range(30):
        keys = jax.random.fold_in(key, time)
        obs, state, *_, done, _, info = env.step(keys, state, time % 2, params)
        task_obs, task_state, reward, *task_done, _ = CARTPOLE[0].step(
            keys, task_state, time % 2, CARTPOLE[1]
        )
        np.testing.assert_allclose(obs, task_obs, atol=1e-6)
        assert info["task_reward"] == reward and done == task_done[0]


def test_the_discount_is_the_agents(key):
    """Training shapes with the agent's discount, whatever the params say."""
    env, params = RewardConfig("exclusive-potential", (), "tanh").make(*CLIFF)
    agent = QLearning(learning_rate=1.0, discount=0.5, epsilon=1.0)
    tables = [
        train(agent, env, params.replace(discount=d), key, 40).policy.weights
        for d in (0.99, 0.1)
    ]
    np.testing.assert_array_equal(*tables)
    # From the start, down and left stay: the value of a stay is that of nothing else.
    potential = env.potential(params, CLIFF[0].reset(key, CLIFF[1])[0])
    shaped = 0.5 * potential - potential
    state = env.reset(key, params)[1]
    reward = env.step_env(key, state, jnp.int32(1), params.replace(discount=0.5))[2]
    np.testing.assert_allclose(reward, shaped, rtol=1e-5)


def test_population_axes():
    env, params = RewardConfig("additive").make(*CARTPOLE)
    axes = env.population_axes(params)
    weights = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params.weights)
    step = jax.vmap(
        lambda p: env.step_env(jax.random.key(0), env.reset(KEY, p)[1], 0, p)[2],
        (axes,),
    )
    rewards = jax.jit(step)(params.replace(weights=weights))
    assert rewards.shape == (2,) and rewards[0] != rewards[1]
    assert isinstance(params, RewardParams)


KEY = jax.random.key(0)


def test_bad_input_is_named(key):
    with pytest.raises(ValueError, match=r"kind must be one of .*got 'aditive'"):
        RewardConfig("aditive")
    with pytest.raises(ValueError, match="scale must be a number above 0, got -1"):
        RewardConfig("additive", scale=-1)
    with pytest.raises(ValueError, match="'additive-info' needs an info vector"):
        RewardConfig("additive-info").make(*CARTPOLE)
    with pytest.raises(
        ValueError, match=r"info_keys: .* has no wind.*only bump, speed"
    ):
        RewardConfig("additive-info", info_keys=("wind",)).make(
            Maze(), Maze().default_params
        )
    for discount in (0.0, -0.1, 1.5):
        with pytest.raises(ValueError, match="discount must be a number above 0"):
            RewardConfig().make(*CARTPOLE, discount=discount)
        env, params = RewardConfig().make(*CARTPOLE)
        with pytest.raises(ValueError, match="discount must be a number above 0"):
            train(DDQN(discount=discount), env, params, key)
    with pytest.raises(ValueError, match="discount must be a number above 0"):
        EvolutionConfig(
            proxy=RewardConfig(),
            agent=QLearning(discount=2.0),
            scoring=jaxrl_se.StepsToSolve(),
        )
    weights = jax.tree.map(lambda x: x * jnp.nan, params.weights)
    with pytest.raises(ValueError, match=r"params.weights\[0\].* contains NaN"):
        train(DDQN(), env, params.replace(weights=weights), key)
    for task, match in (
        (CARTPOLE, "a table of states.*vectors of size 4"),
        ((ContinuousProbe(), ContinuousProbe().default_params), "continuous vectors"),
    ):
        with pytest.raises(ValueError, match=match):
            train(QLearning(), *task, key)


def test_training_steps_in_the_real_task_are_counted():
    """Where the score is the final return too: agents train in the task itself."""
    config = EvolutionConfig(
        proxy=RewardConfig(hidden_sizes=()),
        agent=QLearning(),
        train_steps=30,
        population_size=4,
        num_seeds=1,
        max_generations=1,
        validation_agents=2,
        validation_episodes=1,
        stop_return=float("inf"),
    )
    steps = jaxrl_se.evolve("Cliff", config).progress.real_steps
    assert 4 * 30 + 4 <= steps <= 4 * (30 + 50)

"""Evolution with several algorithms, sampled hyperparameters, a changing horizon."""

import math

import jax
import numpy as np
import pytest
from evolution_cases import CARTPOLE, PROBE_CONFIG, PROBE_TASK

import envs
from jaxrl_se import (
    BestResponse,
    Choice,
    HorizonCurriculum,
    SyntheticConfig,
    Varied,
    evolve,
    train,
)

OTHER = CARTPOLE.agent.replace(dueling=True, feature_size=4)
VARIED = Varied.of(
    CARTPOLE.agent.replace(hidden_sizes=(8, 8)),
    learning_rate=Choice((1e-2, 1e-3)),
    width=Choice((4, 8)),
    depth=Choice((1, 2)),
)


@pytest.mark.slow
def test_one_algorithm_per_generation_in_turn():
    """Generation by generation the same as an evolution with that algorithm alone.

    The first generation of a run is the first algorithm's, and only the second one's
    fitness differs where the second algorithm does.
    """
    config = CARTPOLE.replace(max_generations=2)
    both = evolve("CartPole-v1", config.replace(agent=(config.agent, OTHER)))
    alone = evolve("CartPole-v1", config)
    rows, alone_rows = both.progress.rows, alone.progress.rows
    assert rows[0]["fitness_mean"] == alone_rows[0]["fitness_mean"]
    assert rows[1]["real_steps"] != alone_rows[1]["real_steps"]
    for algorithm in (0, 1):
        policies, episodes = both.test(jax.random.key(0), 2, algorithm=algorithm)
        assert episodes.returns.shape == (2, 2)
        assert isinstance(policies.weights, (tuple, dict)[algorithm])


@pytest.mark.slow
def test_mixed_algorithms_all_count_in_every_generation():
    """A probe that both solve; the real steps are those of both."""
    agent = PROBE_CONFIG.agent
    config = PROBE_CONFIG.replace(
        agent=(agent, agent.replace(double=False)), algorithms="mixed"
    )
    result = evolve(PROBE_TASK, config, key=2)
    assert result.progress.solved
    per_generation = config.population_size * config.num_seeds * 2  # length one
    assert result.progress.rows[0]["real_steps"] == per_generation


@pytest.mark.slow  # `test_hyperparameters` draws, the tests around evolve
def test_varied_agents_evolve():
    config = CARTPOLE.replace(agent=VARIED, max_generations=1, stop_return=math.inf)
    result = evolve("CartPole-v1", config)
    policies, _ = result.test(jax.random.key(0), 8)
    used = np.asarray(policies.weights[0]["kernel"] != 0).any(axis=1).sum(axis=1)
    assert set(used.tolist()) == {4, 8}  # widths differ between agents


def test_stages_train_one_algorithm_after_the_other():
    """The first stage reads the reward and takes no step; the second one trains."""
    best = BestResponse((4,), "tanh")
    config = CARTPOLE.replace(
        agent=(best, CARTPOLE.agent),
        algorithms="stages",
        stages=(2,),
        max_generations=3,
        stop_return=math.inf,  # nothing is validated
    )
    staged = evolve("CartPole-v1", config).progress.rows
    first = evolve("CartPole-v1", config.replace(stages=(3,))).progress.rows
    means = [[row["fitness_mean"] for row in rows] for rows in (staged, first)]
    assert means[0][:2] == means[1][:2] and means[0][2] != means[1][2]


@pytest.mark.parametrize(
    ("task", "bound"),
    [
        ("CartPole-v1", None),
        ("MountainCarContinuous-v0", None),
        ("MountainCarContinuous-v0", 0.5),
    ],
)
def test_a_best_response_takes_the_action_of_highest_reward(task, bound):
    config = SyntheticConfig(
        hidden_sizes=(4,), initial_states="normal", reward_bound=bound
    )
    env, params = config.make(*envs.make(task))
    agent = BestResponse((4,), reward_bound=bound)
    policy = train(agent, env, params, jax.random.key(0), 1).policy
    reset = jax.jit(jax.vmap(env.reset, (0, None)))
    obs, states = reset(jax.random.split(jax.random.key(1), 32), params)
    obs = np.asarray(obs)
    low, high = np.asarray(params.obs_range).T
    unit = (2 * obs - low - high) / (high - low)
    assert 0.8 < np.std(unit) < 1.2  # standard normal on the task's scale

    def reward(state, action):
        return env.step_env(jax.random.key(0), state, action, params)[2]

    actions = env.spaces.action_space().sample

    @jax.jit
    def rewards(obs, states):
        others = jax.vmap(actions)(jax.random.split(jax.random.key(2), 20))
        best = jax.vmap(lambda obs, state: reward(state, policy(obs)))(obs, states)
        return best, jax.vmap(jax.vmap(reward, (None, 0)), (0, None))(states, others)

    best, rest = jax.device_get(rewards(obs, states))
    assert (best[:, None] >= rest - 1e-5).all()
    assert (best[:, None] > rest + 1e-3).any()


def test_a_noisy_best_response_errs_with_a_key_and_not_without():
    env, params = SyntheticConfig(hidden_sizes=(4,)).make(*envs.make("CartPole-v1"))
    weights = env.init_weights(jax.random.key(0))
    weights = jax.tree.map(lambda x: x if x.ndim > 1 else 0 * x, weights)  # No biases.
    params = params.replace(weights=weights)
    obs = env.reset(jax.random.key(1), params)[0]
    keys = jax.random.split(jax.random.key(2), 64)
    actions = {}
    for noise in (0.0, 5.0):
        agent = BestResponse((4,), obs_noise=noise)
        policy = train(agent, env, params, jax.random.key(0), 1).policy
        actions[noise] = np.asarray(jax.jit(jax.vmap(policy, (None, 0)))(obs, keys))
        assert policy(obs) == actions[0.0][0]
    assert (actions[0.0] == actions[0.0][0]).all()
    assert set(actions[5.0].tolist()) == {0, 1}
    with pytest.raises(ValueError, match="obs_noise must be"):
        train(BestResponse((4,), obs_noise=-1.0), env, params, jax.random.key(0), 1)


def test_the_horizon_limits_fitness_episodes_and_nothing_else():
    horizon = HorizonCurriculum(start=3, end=7, begin=1, generations=2)
    limits = jax.jit(jax.vmap(horizon.at))(np.arange(5))
    assert limits.tolist() == [3, 3, 5, 7, 7]
    config = CARTPOLE.replace(max_generations=4, horizon=horizon, stop_return=math.inf)
    result = evolve("CartPole-v1", config)
    means = [row["fitness_mean"] for row in result.progress.rows]
    assert means == [3, 3, 5, 7]  # no pole falls that fast
    _, episodes = result.test(jax.random.key(0), 2)
    assert episodes.lengths.min() > 7


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"agent": ()}, "agent must hold at least one"),
        ({"algorithms": "all"}, "algorithms must be one of 'cycle', 'mixed', 'stages'"),
        ({"algorithms": "stages", "stages": (3,)}, "stages must be 0 ascending"),
    ],
)
def test_bad_configurations_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        CARTPOLE.replace(**changes)
    with pytest.raises(ValueError, match="start must be an integer of at least 1"):
        HorizonCurriculum(0, 10)

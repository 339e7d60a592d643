"""Tests on the real task while agents train, scoring rules, and tabular agents."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from jaxrl_se import (
    PPO,
    SARSA,
    AreaUnderCurve,
    EvolutionConfig,
    FinalReturn,
    QLearning,
    RewardConfig,
    Spaces,
    StepsToSolve,
    TaskTest,
    evolve,
    train,
)
from jaxrl_se.agents.off_policy import Progress
from jaxrl_se.agents.replay import Batch
from jaxrl_se.agents.tabular import Learner
from jaxrl_se.evaluation import Episodes
from jaxrl_se.scoring import Trial

CLIFF = envs.make("Cliff")
SPACES = Spaces.of(*CLIFF)
AGENT = QLearning(learning_rate=1.0, discount=0.8, epsilon=0.1)
NUM_STEPS = 2000


@pytest.fixture(scope="module")
def tested():
    """Twenty agents on the real Cliff, tested after every episode."""
    test = TaskTest(CLIFF[1], env=CLIFF[0], num_points=100)
    return train(AGENT, *CLIFF, jax.random.key(0), NUM_STEPS, num_agents=20, test=test)


def test_the_curve_is_that_of_ferreira2022(tested):
    """Without a reward network: -50 for 1,000 steps, -12 by 2,000 (section 6.7)."""
    curve = np.asarray(tested.tests.curve).mean(axis=0)
    assert -53 < curve[24] < -47  # 500 steps; -48
    assert -53 < curve[49] < -40  # 1,000 steps; -45
    assert curve[-1] > -16  # 2,000 steps; -12


def test_tests_leave_training_as_it_is(tested):
    plain = train(AGENT, *CLIFF, jax.random.key(0), NUM_STEPS, num_agents=20)
    np.testing.assert_array_equal(plain.policy.weights, tested.policy.weights)
    np.testing.assert_array_equal(tested.tests.num_tests, tested.episodes)
    assert (tested.tests.real_steps > 0).all() and plain.tests is None


def test_area_and_curve_agree(tested):
    """The area is the curve's integral, but for the steps that share a grid point."""
    tests = tested.tests
    rest = (NUM_STEPS - tests.step) * tests.curve[:, -1]
    area = (tests.area + rest) / NUM_STEPS
    np.testing.assert_allclose(area, tests.curve.mean(axis=1), atol=2.0)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], tests)
        score = AreaUnderCurve().scores(trial(one, NUM_STEPS, one.curve[-1]))
        np.testing.assert_allclose(score, area[i : i + 1], rtol=1e-6)


def trial(tests, steps, *returns):
    """An agent whose test episodes had these returns."""
    episodes = Episodes(jnp.float32(returns), jnp.int32([1] * len(returns)))
    return Trial(episodes, jnp.int32(steps), jnp.bool_(True), tests)


def test_training_ends_when_solved():
    test = TaskTest(CLIFF[1], -20.0, env=CLIFF[0], num_points=100, window=3)
    result = train(AGENT, *CLIFF, jax.random.key(0), 3000, num_agents=8, test=test)
    assert (result.steps_taken < 2500).all()
    assert (result.tests.recent.mean(axis=1) >= -20).all()
    np.testing.assert_array_equal(result.tests.step, result.steps_taken)


def test_ppo_is_tested_after_each_iteration(key):
    agent = PPO(num_envs=2, rollout_steps=10, num_minibatches=1, num_epochs=1)
    test = TaskTest(CLIFF[1], env=CLIFF[0], num_points=3)
    tests = train(agent, *CLIFF, key, 60, test=test).tests
    assert tests.num_tests == 3 and tests.step == 60
    np.testing.assert_allclose(tests.area, 20 * tests.curve.sum(), rtol=1e-5)


def test_scores_by_hand(tested):
    one = jax.tree.map(lambda leaf: leaf[0], tested.tests)
    rule = StepsToSolve().for_task(-20.0)
    assert rule.solved_return == -20.0
    assert rule.scores(trial(one, 700, -12.0)).tolist() == [-700]
    assert rule.scores(trial(one, 700, -13.0, -11.0)).tolist() == [-700]
    assert rule.scores(trial(one, 700, -50.0)).tolist() == [-700 - 100 * 30]
    failed = trial(one, 700, -12.0).replace(is_finite=jnp.bool_(False))
    assert np.isnan(rule.scores(failed)).all()
    assert StepsToSolve(solved_return=5.0).for_task(1.0).solved_return == 5.0
    floored, both = FinalReturn(floor=0.0), trial(None, 700, -80.0, 93.0)
    assert floored.scores(both).tolist() == [0.0, 93.0]
    assert floored.validated(both).tolist() == [-80.0, 93.0]
    assert floored.default_stop(5.0) == 5.0 and rule.default_stop(5.0) is None
    with pytest.raises(ValueError, match="solved_return"):
        StepsToSolve().for_task(None)


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"num_points": 7}, "num_points must divide num_steps"),
        ({"window": 0}, "window must be an integer of at least 1"),
    ],
)
def test_bad_tests_are_refused(key, sizes, match):
    with pytest.raises(ValueError, match=match):
        train(AGENT, *CLIFF, key, 50, test=TaskTest(CLIFF[1], env=CLIFF[0], **sizes))


def batch(obs, action, reward, next_obs, terminated):
    return Batch(
        obs=jax.nn.one_hot(jnp.array([obs]), 48),
        next_obs=jax.nn.one_hot(jnp.array([next_obs]), 48),
        action=jnp.array([[action]], jnp.float32),
        reward=jnp.array([reward], jnp.float32),
        bootstrap_weight=1.0 - jnp.array([terminated], jnp.float32),
        mask=jnp.ones(1),
    )


def test_updates_by_hand():
    """Q += lr (r + b / sqrt(n) + g max Q(s') (1 - terminated) - Q), n with the step."""
    values = jnp.zeros((48, 4)).at[3].set(jnp.array([1.0, 4.0, 2.0, 3.0]))
    learner = Learner(values=values.at[7, 2].set(0.5), visits=jnp.zeros((48, 4)))
    uniform = jnp.array([0.05, 0.6])
    agent = QLearning(learning_rate=0.5, discount=0.8, count_bonus=2.0, epsilon=0.1)
    for reward, terminated, count in ((1.0, 0.0, 1), (1.0, 0.0, 2), (-1.0, 1.0, 3)):
        before = learner.values[7, 2]
        step = batch(7, 2, reward, 3, terminated)
        learner = agent.learn(SPACES, learner, step, uniform)
        target = reward + 2 / np.sqrt(count) + 0.8 * 4.0 * (1 - terminated)
        expected = before + 0.5 * (target - before)
        np.testing.assert_allclose(learner.values[7, 2], expected, rtol=1e-5)
        assert learner.visits.sum() == count
    # SARSA's next action explores for the first of its numbers below epsilon.
    sarsa = SARSA(learning_rate=1.0, discount=0.8, epsilon=0.1)
    for number, expected in ((0.05, 1 + 0.8 * 2.0), (0.5, 1 + 0.8 * 4.0)):
        start = Learner(values=values, visits=learner.visits)
        new = sarsa.learn(
            SPACES, start, batch(7, 2, 1.0, 3, 0.0), jnp.array([number, 0.6])
        )
        np.testing.assert_allclose(new.values[7, 2], expected, rtol=1e-5)


def test_ties_go_to_the_first_action():
    """Hence a fresh greedy agent walks right, into the cliff, at once."""
    learner = AGENT.init(SPACES, jax.random.key(0))
    progress = Progress(jnp.int32(0), jnp.int32(0))
    obs = CLIFF[0].reset(jax.random.key(0), CLIFF[1])[0]
    action, _ = AGENT.explore(SPACES, learner, obs, jnp.array([0.9, 0.9]), progress)
    assert action == 0
    action, _ = AGENT.explore(SPACES, learner, obs, jnp.array([0.0, 0.9]), progress)
    assert action == 3


@pytest.mark.slow  # 20 generations of training
def test_an_evolved_reward_makes_q_learning_faster(key):
    """A small evolution halves the steps to solve, and agents are quick for good."""
    config = EvolutionConfig(
        proxy=RewardConfig("additive-potential", hidden_sizes=()),
        scoring=StepsToSolve(window=3),
        agent=AGENT,
        train_steps=1500,
        population_size=16,
        num_seeds=1,
        std=1.0,
        max_generations=20,
    )
    result = evolve("Cliff", config, 0)
    means = [row["fitness_mean"] for row in result.progress.rows]
    assert max(means[-5:]) > means[0] + 500
    # Both training and tests are steps in the real task.
    assert result.progress.real_steps > 100_000
    test = TaskTest(CLIFF[1], env=CLIFF[0], num_points=100)
    curve = train(
        AGENT, result.env, result.params, key, NUM_STEPS, num_agents=20, test=test
    ).tests.curve
    assert curve.mean(axis=0)[49] > -30  # 1,000 steps; -45 without


@pytest.mark.slow  # `test_failing_candidates_rank_last_and_are_counted`
def test_rewards_of_nan_fail_their_candidate():
    """A huge network answers inf - inf; evolution goes on without such candidates."""
    config = EvolutionConfig(
        proxy=RewardConfig("exclusive-potential", hidden_sizes=()),
        scoring=AreaUnderCurve(),
        agent=AGENT,
        train_steps=20,
        population_size=4,
        num_seeds=1,
        std=3e38,
        max_generations=2,
        stop_return=math.inf,  # nothing is validated
    )
    result = evolve("Cliff", config, 0)
    assert 0 < result.progress.failed_candidates <= 8

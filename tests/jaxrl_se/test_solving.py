"""From a log to a policy in one line."""

import dataclasses

import numpy as np
import pytest

import envs
import jaxrl_se
import oswm
from jaxrl_se import solving


@pytest.fixture(scope="module")
def solution():
    log = envs.collect("CartPole-v1", 300, 5)
    return jaxrl_se.solve(
        log,
        agent=jaxrl_se.DDQN(hidden_sizes=(8,), batch_size=8, buffer_size=64),
        num_steps=40,
        num_agents=3,
        num_worlds=2,
        model=oswm.Ridge(),
        max_steps=20,
        progress=False,
    )


def test_a_solution_says_what_was_done(solution):
    text = repr(solution)
    assert "DDQN trained for 40 steps in Ridge of 300 rows" in text
    assert "2 other agents inside" in text
    assert solution.returns.shape == (3, 3)
    assert solution.left_out.shape == (5,)
    # Positions follow velocities exactly; the reward of CartPole is always 1.
    assert solution.left_out[0] < 1e-3
    assert np.isnan(solution.left_out[4])
    low, high = solution.range_of_worlds
    assert low <= high <= 20


def test_its_policy_is_the_best_in_models_of_parts(solution):
    means = solution.returns[:, 1:].mean(axis=1)
    assert means[solution.chosen] == means.max()
    episodes = jaxrl_se.evaluate(solution.policy, solution.env, solution.params, 0, 2)
    assert episodes.returns.shape == (2,)


def test_a_solution_is_taken_where_a_policy_is(solution, tmp_path):
    saved = jaxrl_se.save_agent(tmp_path / "a.npz", solution)
    loaded = jaxrl_se.load_agent(saved)
    found, wanted = (
        jaxrl_se.evaluate(each, solution.env, solution.params, 0, 2)
        for each in (loaded, solution)
    )
    np.testing.assert_array_equal(found.returns, wanted.returns)


def test_returns_are_what_the_task_pays():
    """Agents are paid less where a model is unsure; who reads a return is not told."""
    log = envs.collect("CartPole-v1", 300, 5)
    settings = {"num_steps": 40, "num_agents": 2, "num_worlds": 2, "max_steps": 20}
    agent = jaxrl_se.DDQN(hidden_sizes=(8,), batch_size=8, buffer_size=64)
    found = jaxrl_se.solve(
        log,
        agent=agent,
        model=oswm.Ridge(),
        uncertainty_penalty=1e6,
        progress=False,
        **settings,
    )
    assert (found.returns > 0).all() and (found.returns <= 20).all()


def test_disagreement_is_said(solution):
    agreeing = solution.returns.copy()
    agreeing[solution.chosen] = 100.0
    assert _with(solution, agreeing).doubt() is None
    agreeing[solution.chosen, -1] = 60.0
    assert "disagree" in _with(solution, agreeing).doubt()
    agreeing[solution.chosen, -1] = 1.0
    assert "no better than" in _with(solution, agreeing).doubt()
    assert "Train longer" in _with(solution, agreeing * 0).doubt()
    blind = dataclasses.replace(solution, left_out=np.full(5, 0.9))
    assert "90% of the variance of the reward" in blind.doubt()


def test_a_log_without_order_has_no_return_to_compare_with(solution):
    rows = envs.collect("CartPole-v1", 300, 5)
    order = np.random.default_rng(0).permutation(300)
    fields = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
    rows = envs.Transitions(*(np.asarray(getattr(rows, x))[order] for x in fields))
    found = solving._logged_return(rows)
    assert np.isnan(found)
    blind = dataclasses.replace(solution, logged_return=found)
    assert "no complete episode" in blind.doubt()
    assert "mean of logged episodes unknown" in repr(blind)


def test_chance_is_no_jump():
    """A column of noise is beyond all models; one of steps is known to neighbours."""
    rng = np.random.default_rng(0)
    place = rng.uniform(-1, 1, 400)
    noise = rng.normal(size=(401, 1))
    steps = np.sign(np.sin(20 * place))[:, None]
    obs = np.column_stack([place, noise[:-1]]).astype(np.float32)
    after = obs + np.column_stack([steps, noise[1:] - noise[:-1]])
    rows = envs.read_transitions(
        {"obs": obs, "action": rng.integers(0, 2, 400), "reward": noise[1:, 0] % 1}
        | {"next_obs": after, "terminated": np.ones(400, bool)}
    )
    model = oswm.FastKernelRidge()
    left_out = solving.leave_one_out_errors(
        rows, oswm.condition(rows, model=model)[1].cache
    )
    found = solving.is_chance(rows, left_out, None)
    assert left_out[0] > 0.3 and found.tolist() == [False, True, True]


def _with(solution, returns):
    return dataclasses.replace(solution, returns=returns, logged_return=20.0)

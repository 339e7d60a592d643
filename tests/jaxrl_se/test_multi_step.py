"""Dynamics added to an environment of one step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from envs.play import play
from jaxrl_se.multi_step import Dynamics, with_dynamics
from jaxrl_se.obs_ranges import to_unit

TASK = "CartPole-v1"
SHORT = Dynamics(num_rows=1500, num_steps=1500)


@pytest.fixture(scope="module")
def pair():
    return with_dynamics(*jaxrl_se.load(TASK), TASK, 5, 0, SHORT)


def test_episodes_are_truncated_and_rewards_are_the_old_ones_less_the_best(pair):
    env, params = pair
    one_step, before = jaxrl_se.load(TASK)
    assert (env.variant, params.max_steps_in_episode) == ("multi-step", 5)
    np.testing.assert_array_equal(params.obs_range, before.obs_range)
    key = jax.random.key(0)
    obs, state = env.reset(key, params)
    np.testing.assert_allclose(obs, one_step.reset(key, before)[0], rtol=1e-6)
    rewards = [
        [float(e.step_env(key, state, a, p)[2]) for a in (0, 1)]
        for e, p in (pair, (one_step, before))
    ]
    np.testing.assert_allclose(max(rewards[0]), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.ptp(rewards[0]), np.ptp(rewards[1]), rtol=1e-4)
    ends = []
    for _ in range(5):
        _, state, _, terminated, truncated, _ = env.step(key, state, 0, params)
        ends.append((bool(terminated), bool(truncated)))
    assert ends == [(False, False)] * 4 + [(False, True)]


def test_what_follows_is_what_follows_in_the_task(pair):
    """A step of the fitted dynamics, on rows that nothing was fitted to."""
    env, params = pair
    rows = envs.collect(TASK, 300, key=7)
    obs, action = jnp.asarray(rows.obs), jnp.asarray(rows.action)
    state = env.reset(jax.random.key(0), params)[1]

    def step(obs, action):
        begun = state.replace(obs=obs)
        return env.step_env(jax.random.key(0), begun, action, params)[0]

    seen = to_unit(params.obs_range, obs)
    after = to_unit(params.obs_range, jnp.asarray(rows.next_obs))
    found = to_unit(params.obs_range, jax.vmap(step)(obs, action))
    near = np.abs(np.asarray(after)).max(1) < 1.5
    error = np.square(np.asarray(found - after))[near].mean()
    assert error < 0.5 * np.square(np.asarray(seen - after))[near].mean()


@pytest.mark.slow  # learning to a margin
def test_far_sighted_agents_learn_what_the_reward_asks_for(pair):
    """Also one that takes the time limit for the end."""
    agent = jaxrl_se.DDQN(learning_rate=5e-3, hidden_sizes=(32,), learning_starts=8)
    for env in (pair[0], envs.TerminatingTimeLimit(pair[0])):
        trained = jaxrl_se.train(agent, env, pair[1], 0, 1000, num_agents=2)
        test = jax.vmap(
            lambda policy: play(
                policy, *envs.make(TASK), jax.random.key(1), 4
            ).returns.mean()
        )
        assert test(trained.policy).mean() > 400


def test_what_cannot_be_lengthened_is_refused(pair):
    with pytest.raises(ValueError, match="env must be a OneStepEnv with reward_heads"):
        with_dynamics(*pair, TASK, 5)
    with pytest.raises(ValueError, match="episode_length must be"):
        with_dynamics(*jaxrl_se.load(TASK), TASK, 0)
    config = jaxrl_se.SyntheticConfig(initial_states="target")
    with pytest.raises(ValueError, match="initial states must not be the task's own"):
        with_dynamics(*config.make(*envs.make(TASK)), TASK, 5)
    with pytest.raises(ValueError, match="episode_length must be 1 where config"):
        jaxrl_se.evolve(TASK, jaxrl_se.EvolutionConfig(), episode_length=5)

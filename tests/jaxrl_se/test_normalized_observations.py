"""Agents that see observations by their running mean and deviation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
import jaxrl_se
from envs.spaces import Spaces
from jaxrl_se.agents import DDQN, PPO, TD3, RecurrentPPO
from jaxrl_se.agents.observations import ObsStatistics

SIZES: dict[str, Any] = {"hidden_sizes": (8,), "normalize_observations": True}
AGENTS = {
    "DDQN": DDQN(**SIZES, batch_size=8),
    "PPO": PPO(**SIZES, num_envs=2, rollout_steps=32, num_minibatches=2),
    "RecurrentPPO": RecurrentPPO(
        normalize_observations=True,
        num_envs=2,
        rollout_steps=32,
        num_minibatches=2,
        memory_size=4,
    ),
}


def test_statistics_are_those_of_all_rows():
    rows = np.random.default_rng(0).normal([3, -2, 0], [10, 1, 0], (96, 3))
    statistics = ObsStatistics.start(Spaces(3, 2))
    np.testing.assert_array_equal(statistics.normalized(jnp.ones(3)), 1)
    for chunk in np.split(rows, [1, 2, 40]):
        statistics = statistics.seen(jnp.asarray(chunk, jnp.float32))
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), rtol=1e-5)
    deviation = np.sqrt(statistics.squares / statistics.count)
    np.testing.assert_allclose(deviation, rows.std(axis=0), rtol=1e-4, atol=1e-6)
    seen = np.asarray(statistics.normalized(jnp.asarray(rows, jnp.float32)))
    np.testing.assert_allclose(seen[:, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen[:, :2].std(axis=0), 1, rtol=1e-4)
    np.testing.assert_array_equal(seen[:, 2], 0, err_msg="only shifted")
    assert statistics.normalized(jnp.float32([1e6, 0, 5])).tolist()[0] == 10


@pytest.fixture(
    scope="module",
    params=[
        "DDQN",
        pytest.param("PPO", marks=pytest.mark.slow),  # the next one, without memory
        "RecurrentPPO",
    ],
)
def trained(request):
    agent = AGENTS[request.param]
    return jaxrl_se.train(agent, "CartPole-v1", 0, 128)


def test_policy_acts_by_the_statistics_of_its_training(trained, tmp_path):
    assert trained.policy.observations.count == 128
    path = tmp_path / "agent.npz"
    jaxrl_se.save_agent(path, trained)
    loaded = jaxrl_se.load_agent(path)
    for name, array in vars(loaded.policy.observations).items():
        np.testing.assert_array_equal(array, getattr(trained.policy.observations, name))
    shifted = trained.policy.replace(
        observations=trained.policy.observations.replace(
            mean=trained.policy.observations.mean + 3.0
        )
    )
    start, step = jaxrl_se.policies.with_memory(shifted)
    _, inner = jaxrl_se.policies.with_memory(trained.policy)
    obs = jnp.float32([0.1, -0.2, 0.3, 0.4])
    moved, _ = step(start(), obs + 3.0, jax.random.key(0))
    there, _ = inner(start(), obs, jax.random.key(0))
    np.testing.assert_array_equal(moved, there)


def test_evaluation_sees_what_training_saw():
    """What a wrapper calls `policy` is not taken for the policy itself."""

    @struct.dataclass
    class Opposite:
        policy: Any

        def __call__(self, obs, key):
            return 1 - self.policy(obs, key)

    def right(obs, key):
        return jnp.int32(1)

    returns = jaxrl_se.evaluate(
        Opposite(jax.tree_util.Partial(right)), "CartPole-v1", 0
    )
    pushed = jaxrl_se.evaluate(right, "CartPole-v1", 0)
    assert not np.array_equal(returns.returns, pushed.returns)


def test_units_do_not_matter():
    """Two tasks that differ in units alone give agents of the same decisions."""
    env, params = envs.make("Pendulum-v1")

    class OtherUnits:
        """Pendulum, angles in thousandths and velocities in thousands."""

        scale = jnp.float32([1e3, 1e3, 1e-3])

        def __getattr__(self, name):
            return getattr(env, name)

        def reset(self, key, params=None):
            obs, state = env.reset(key, params)
            return obs * self.scale, state

        def step(self, key, state, action, params=None):
            obs, *rest = env.step(key, state, action, params)
            rest[-1] = {
                k: v * self.scale if "obs" in k else v for k, v in rest[-1].items()
            }
            return obs * self.scale, *rest

    agent = TD3(**SIZES, batch_size=8, learning_starts=50)
    ours = jaxrl_se.train(agent, (env, params), 0, 200)
    theirs = jaxrl_se.train(agent, (OtherUnits(), params), 0, 200)
    obs = jnp.float32([[0.5, 0.8, 2.0], [-1.0, 0.1, -5.0]])
    actions = jax.vmap(ours.policy)(obs)
    np.testing.assert_allclose(
        jax.vmap(theirs.policy)(obs * OtherUnits.scale), actions, atol=1e-2
    )


def test_pictures_and_numbered_states_are_refused():
    for task in ("Breakout-MinAtar", "FrozenLake-misc"):
        with pytest.raises(ValueError, match="normalize_observations must be False"):
            jaxrl_se.train(DDQN(normalize_observations=True), task, 0, 64)

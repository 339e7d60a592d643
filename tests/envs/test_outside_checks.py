"""Gymnasium tasks that break their contract: what `check` and others say of them."""

import warnings

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from odd_task import OddTask

import envs
from envs.old_gym import OldInterfaceError


class Walk(gymnasium.Env):
    """Five steps along a line; `change` breaks one thing."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, change=None):
        self.change = change

    def obs(self):
        obs = np.array([self.time, self.start], np.float32)
        changes = {
            "leaves": obs + 7,
            "float64": obs.astype(np.float64),
            "list": obs.tolist(),
            "shape": obs[:1],
            "nan": obs * np.nan,
        }
        return changes.get(self.change, obs)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        rng = np.random if self.change == "seed" else self.np_random
        self.time, self.start = 0, rng.uniform(-1, 1)
        return self.obs() if self.change == "old reset" else (self.obs(), {})

    def step(self, action):
        self.time += 1
        reward, ended = 1.0, self.time >= 5
        if self.change == "old step":
            return self.obs(), reward, ended, {}
        if self.change == "reward":
            reward = np.ones(1)
        if self.change == "flag":
            ended = int(ended)
        return self.obs(), reward, ended, False, {}


class OldGym:
    """An environment of the old gym."""

    observation_space, action_space = Walk.observation_space, Walk.action_space

    def reset(self):
        return np.zeros(2, np.float32)

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, True, {}


@pytest.mark.parametrize(
    "task",
    [
        Walk(),
        lambda: gymnasium.vector.SyncVectorEnv([Walk] * 2),
        lambda: envs.external(Walk),
        lambda: gymnasium.make("Pendulum-v1"),
        lambda: gymnasium.make("FrozenLake-v1"),
        lambda: gymnasium.make("Blackjack-v1"),
    ],
)
def test_what_keeps_the_contract(task):
    envs.check(task if isinstance(task, gymnasium.Env) else task(), num_steps=20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("leaves", r"obs leaves its space.* \[-9, 9\], got obs\[0\] = 10"),
        ("float64", "obs must be of dtype float32, reset gave float64"),
        ("list", "obs must be an array of NumPy, reset gave a list"),
        ("shape", r"obs must have shape \(2,\), reset gave \(1,\)"),
        ("nan", "obs must be finite, reset gave NaN"),
        ("reward", r"reward must be one number, step gave array\(\[1\.\]\)"),
        ("flag", r"terminated must be True or False, step gave 0 \(int\)"),
        ("seed", "same seeds and actions give other episodes a second time, at reset"),
        ("old reset", r"reset must return \(obs, info\), got one ndarray.*shimmy"),
        ("old step", r"step must return .*got 4 values.*GymV21Environment"),
    ],
)
def test_what_breaks_the_contract(change, message):
    with pytest.raises(
        envs.ContractError, match=rf"Gymnasium's contract:\n.*{message}"
    ):
        envs.check(Walk(change), num_steps=20)


def test_a_limit_that_terminates():
    env = Walk()
    env.spec = gymnasium.envs.registration.EnvSpec("Walk-v0", max_episode_steps=5)
    with pytest.raises(envs.ContractError, match="marked as terminated, not truncated"):
        envs.check(envs.external(env))


@pytest.mark.parametrize("change", ["old reset", "old step"])
@pytest.mark.parametrize("how", ["environment", "factory", "vector"])
def test_old_environments_are_refused_before_anything_is_played(change, how):
    made = {
        "environment": lambda: Walk(change),
        "factory": lambda: lambda: Walk(change),
        "vector": lambda: envs.external(lambda: Walk(change), 3),
    }
    with pytest.raises(OldInterfaceError, match="interface of the old gym"):
        envs.collect(made[how](), 20, 0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: envs.external(OldGym()),
        lambda: envs.external(OldGym),
        lambda: envs.collect(OldGym(), 20, 0),
        lambda: envs.collect(lambda: OldGym(), 20, 0),
        lambda: envs.as_pair(OldGym()),
        lambda: envs.check(OldGym()),
    ],
)
def test_what_is_none_of_gymnasiums_is_told(call):
    with pytest.raises((TypeError, envs.ContractError), match=r"old gym.*shimmy"):
        call()


def test_observations_outside_their_space_are_told_once():
    with pytest.warns(UserWarning, match=r"'Walk'.*leave the .*obs\[0\] = 10") as said:
        rows = envs.collect(Walk("leaves"), 20, 0)
    assert len(said) == 1 and rows.obs.max() > 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs.collect(Walk(), 20, 0)


class Narrow(OddTask):
    """Counts to five in a space that ends at one."""

    def observation_space(self, params):
        return spaces.Box(0, 1, (), jnp.float32)


def test_a_gymnax_task_outside_its_space_is_told():
    pair = Narrow(()), Narrow(()).default_params
    with pytest.warns(UserWarning, match=r"'Odd'.* must be in \[0, 1\], got obs = "):
        envs.collect(pair, 20, 0, lambda obs, key: jnp.int32(1))
    env = envs.GymnasiumEnv(*pair)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="leave the observation space"):
        for _ in range(2):
            env.step(1)

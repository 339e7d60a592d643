"""The contract test: every environment that we ship keeps it, each fault is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from odd_task import OddState, OddTask
from random_walk import RandomWalk

import envs
import jaxrl_se
import oswm
from envs.check import findings

TASKS = [name for name in envs.available() if name != "HalfCheetah-v5"]


@pytest.mark.parametrize("name", TASKS)
def test_tasks(name):
    envs.check(*envs.make(name))


@pytest.mark.slow
def test_half_cheetah():
    pytest.importorskip("mujoco")
    envs.check(*envs.make("HalfCheetah-v5"), num_steps=6)


# One of each variant; `test_zoo` loads all of them, and the rest is the same code.
VARIANTS = {shipped[1]: shipped for shipped in reversed(list(jaxrl_se.available()))}


@pytest.mark.parametrize(
    "shipped",
    [
        pytest.param(x, marks=[pytest.mark.slow] * (x not in VARIANTS.values()))
        for x in jaxrl_se.available()
    ],
    ids="-".join,
)
def test_learned_environments(shipped):
    envs.check(*jaxrl_se.load(*shipped))


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("CartPole-v1", False),
        ("Pendulum-v1", True),
        # Other pairs of the same two settings.
        pytest.param("CartPole-v1", True, marks=pytest.mark.slow),
        pytest.param("Pendulum-v1", False, marks=pytest.mark.slow),
    ],
)
def test_world_models(name, sample):
    env, params = envs.make(name)
    rows = envs.collect((env, params), 200, key=0)
    space = env.action_space(params)
    envs.check(*oswm.condition(rows, space, model=oswm.Ridge(), sample=sample))


WRAPPED = {
    "own": lambda env: RandomWalk(),
    "ActionRepeat": lambda env: envs.ActionRepeat(env, 3),
    "TerminatingTimeLimit": envs.TerminatingTimeLimit,
    "flat": lambda env: envs.flat_observations(
        OddTask((), (2, 2)), OddTask().default_params
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_tasks(name):
    env = WRAPPED[name](envs.make("CartPole-v1")[0])
    envs.check(env)


class Fault(OddTask):
    def __init__(self):
        super().__init__(())


class LongReward(Fault):
    def step_env(self, *args):
        obs, state, reward, *rest = super().step_env(*args)
        return obs, state, reward[None], *rest


class IntReward(Fault):
    def step_env(self, *args):
        obs, state, reward, *rest = super().step_env(*args)
        return obs, state, reward.astype(int), *rest


class FloatFlag(Fault):
    def step_env(self, *args):
        obs, state, reward, terminated, info = super().step_env(*args)
        return obs, state, reward, terminated.astype(jnp.float32), info


class OtherState(Fault):
    def step_env(self, *args):
        obs, state, *rest = super().step_env(*args)
        state = OddState(time=state.time.astype(jnp.float32), position=state.position)
        return obs, state, *rest


class OtherObs(Fault):
    def step_env(self, *args):
        obs, *rest = super().step_env(*args)
        return obs[None], *rest


class OldStep(Fault):
    def step(self, *args):
        obs, state, reward, terminated, _, info = super().step(*args)
        return obs, state, reward, terminated, info


class NoFinal(Fault):
    def step(self, *args):
        *rest, _info = super().step(*args)
        return *rest, {}


class WrongSpace(Fault):
    def observation_space(self, params=None):
        return gymnax_box(0, 9, (3,))


class WrongDtype(Fault):
    def observation_space(self, params=None):
        return gymnax_box(0, 9, (), jnp.int32)


class SmallSpace(Fault):
    def observation_space(self, params=None):
        return gymnax_box(0, 1, ())


def gymnax_box(*args):
    from gymnax.environments import spaces

    return spaces.Box(*args)


class NotFinite(Fault):
    def step_env(self, *args):
        obs, state, reward, *rest = super().step_env(*args)
        return obs + jnp.where(state.time > 2, jnp.nan, 0), state, reward, *rest


class NoLimit(Fault):
    def is_truncated(self, state, params):
        return jnp.bool_(False)

    def step_env(self, *args):
        obs, state, reward, _, info = super().step_env(*args)
        return obs * 0, state, reward, jnp.bool_(False), info


class NoReset(Fault):
    def step(self, key, state, action, params=None):
        obs, state, reward, terminated, _info = self.step_env(
            key, state, action, params
        )
        truncated = self.is_truncated(state, params)
        return obs, state, reward, terminated, truncated, {"final_observation": obs}


class ResetInFinal(Fault):
    """Puts the observation after the reset where the last one belongs."""

    def step(self, *args):
        obs, *rest, info = super().step(*args)
        return obs, *rest, {**info, "final_observation": obs + 1}


class Disagrees(Fault):
    def step(self, *args):
        obs, state, reward, *rest = super().step(*args)
        return obs, state, 2 * reward, *rest


class PythonFlow(Fault):
    def step_env(self, key, state, action, params):
        if action > 0:
            pass
        return super().step_env(key, state, action, params)


class HostRandom(Fault):
    generator = np.random.default_rng(0)

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return obs + np.float32(self.generator.uniform()), state


class Leaks(Fault):
    def step_env(self, *args):
        outputs = super().step_env(*args)
        self.last = outputs[0]
        return outputs


class Counts(Fault):
    count = 0

    def step_env(self, *args):
        self.count = self.count + 1
        return super().step_env(*args)


class NoHash(Fault):
    __hash__ = None  # type: ignore


class NoSpaces(Fault):
    def action_space(self, params=None):
        raise NotImplementedError("to do")


FAULTS = {
    LongReward: r"step_env: reward must be a single number, got shape \(1,\)",
    IntReward: "step_env: reward must be a float, got int32",
    FloatFlag: "step_env: terminated must be a bool, got float32",
    OtherState: r"step_env: state.time is float32\[\], by reset int32",
    OtherObs: r"step_env: obs is float32\[1\], by reset float32\[\]",
    OldStep: "step must return six values as in gymnax 1.x, got 5",
    NoFinal: r"step must return info\['final_observation'\]",
    WrongSpace: r"reset: obs is float32\[\], its space says float32\[3\]",
    WrongDtype: r"reset: obs is float32\[\], its space says int32\[\]",
    SmallSpace: r"final_observation\[\] leaves its space \[0, 1\]: it was in \[0, 3\]",
    NotFinite: "obs holds NaN or infinity, first in step 3",
    NoLimit: "with params.max_steps_in_episode = 5 an episode went on for 60 steps",
    NoReset: "obs after the end of an episode is that episode's last observation",
    ResetInFinal: r"info\['final_observation'\] is not obs where no episode has ended",
    Disagrees: "step and step_env disagree",
    PythonFlow: "step_env.* cannot be traced: TracerBoolConversionError",
    HostRandom: "reset_env is another program each time it is traced",
    Leaks: "tracing left a traced value in env.last",
    Counts: "tracing changed env.count",
    NoHash: "it is not hashable",
    NoSpaces: "its spaces cannot be read: NotImplementedError: to do",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_named(fault):
    with pytest.raises(envs.ContractError, match=FAULTS[fault]) as caught:
        envs.check(fault())
    assert str(caught.value).startswith("Odd does not keep gymnax's contract:\n* ")


def test_nothing_is_found_without_a_fault():
    assert findings(Fault()) == []


def test_what_is_no_gymnax_environment():
    for wrong, message in (
        ((*envs.make("CartPole-v1"), 0), r"it is a tuple; a pair is \(env, params\)"),
        (jax.numpy, "it has no method reset"),
    ):
        with pytest.raises(envs.ContractError, match=message):
            envs.check(wrong)

"""Tasks by name: what is there, what is equal, what is refused."""

import copy
import dataclasses
import pickle

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs

# HalfCheetah needs an optional extra and has tests of its own.
BUILT_IN = [
    name
    for name in envs.available()
    if envs.spec(name).gymnasium_id and name != "HalfCheetah-v5"
]


@pytest.fixture
def forget():
    """Forget what a test registers."""
    before = envs.available()
    yield
    for name in set(envs.available()) - set(before):
        envs.unregister(name)


@pytest.mark.parametrize("name", BUILT_IN)
def test_spec_is_gymnasiums(name):
    theirs = gymnasium.spec(name)
    assert envs.spec(name).gymnasium_id == theirs.id
    assert envs.solved_return(name) == theirs.reward_threshold
    assert envs.make(name)[1].max_steps_in_episode == theirs.max_episode_steps


def test_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        envs.spec("CartPole-v1").solved_return = 0  # type: ignore


@pytest.mark.parametrize("name", BUILT_IN)
def test_environments_compare_by_configuration(name):
    env, _ = envs.make(name)
    assert envs.make(name)[0] is env
    for twin in (type(env)(), copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert twin == env and hash(twin) == hash(env)
    assert env != gymnax.make("CartPole-v1")[0]


def test_transition_gradients_are_part_of_the_configuration():
    env, _ = envs.make("Pendulum-v1")
    assert env.with_transition_gradients() != env


def test_equal_environments_share_one_compilation():
    env, params = envs.make("CartPole-v1")
    traces = []

    @jax.jit
    def step(key, state, params):
        traces.append(1)
        return env.step(key, state, jnp.int32(0), params)

    key = jax.random.key(0)
    _, state = env.reset(key, params)
    for name in ("CartPole-v1", "CartPole-v0"):
        _, state, *_ = step(key, state, envs.make(name)[1])
    restored = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), state)
    step(key, restored, params)
    assert len(traces) == 1


@pytest.mark.parametrize("name", BUILT_IN)
def test_outputs_are_strongly_typed_and_a_scan_carry_is_stable(name):
    env, params = envs.make(name)

    def episode(key):
        obs, state = env.reset(key, params)
        action = env.action_space(params).sample(key)
        after = env.step(key, state, action, params)

        def body(state, key):
            _, state, reward, *_ = env.step(key, state, action, params)
            return state, reward

        keys = jax.random.split(key, 5)
        return (obs, state), after, jax.lax.scan(body, state, keys)

    before, after, (last, rewards) = jax.eval_shape(episode, jax.random.key(0))
    assert not any(x.weak_type for x in jax.tree.leaves((before, after, rewards)))
    assert before == after[:2] and before[1] == last
    assert before[1].time.dtype == jnp.int32
    assert rewards.shape == (5,) and rewards.dtype == jnp.float32
    assert after[3].dtype == after[4].dtype == jnp.bool_


def test_first_make_inside_jit_leaks_no_tracer(forget):
    acrobot = envs.make("Acrobot-v1")[0]
    envs.register("fresh", lambda: (acrobot, acrobot.default_params))
    jax.jit(lambda: envs.make("fresh")[1].dt)()
    assert isinstance(envs.make("fresh")[1].available_torque.tolist(), list)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CartPole-v2", "'CartPole-v1'"),
        ("cartpole", "CartPole-v1"),
        ("Walker2d-v5", "available: CartPole-v0"),
    ],
)
def test_unknown_name_is_refused_with_a_hint(name, hint):
    for function in (envs.make, envs.spec, envs.solved_return):
        with pytest.raises(ValueError, match="name: unknown task") as error:
            function(name)
        assert hint in str(error.value)


def test_own_task_can_be_registered_once(forget):
    calls = []

    def factory():
        calls.append(1)
        return gymnax.make("Catch-bsuite")

    envs.register("Catch", factory, solved_return=0.9)
    assert not calls, "nothing is built before it is asked for"
    assert envs.make("Catch") is envs.make("Catch")
    assert len(calls) == 1
    assert envs.spec("Catch") == envs.TaskSpec("Catch", None, 0.9)
    assert envs.available()[-1] == "Catch"
    with pytest.raises(ValueError, match="'Catch' is already registered"):
        envs.register("Catch", factory)
    envs.unregister("Catch")
    assert "Catch" not in envs.available()
    with pytest.raises(ValueError, match="unknown task 'Catch'"):
        envs.unregister("Catch")
    envs.register("Catch", factory)
    envs.make("Catch")
    assert len(calls) == 2


def test_bad_factories_are_refused(forget):
    with pytest.raises(TypeError, match="factory must be a function"):
        envs.register("Mine", gymnax.make("Catch-bsuite"))  # type: ignore
    envs.register("Mine", lambda: gymnax.make("Catch-bsuite")[0])  # type: ignore
    with pytest.raises(TypeError, match="must return \\(env, params\\)"):
        envs.make("Mine")

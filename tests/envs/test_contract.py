"""Tasks that cannot be stepped are named before anything is compiled."""

import pytest

import envs
import jaxrl_se
from benchmarks.bad_values.broken_tasks import (
    Branches,
    FloatLimit,
    GrowingObs,
    IntegerEnds,
    IntegerState,
    LongerSpace,
    TwoRewards,
)
from envs.contract import check_contract
from jaxrl_se import DDQN, EvolutionConfig, evolve, train

AGENT = DDQN(hidden_sizes=(4,), buffer_size=8, batch_size=4)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (IntegerEnds(), "terminated must be a bool, got int32"),
        (FloatLimit(), "truncated must be a bool, got float32"),
        (LongerSpace(), r"obs must have shape \(2,\), as its .*space says, got \(1,\)"),
        (GrowingObs(), r"step: obs is float32\[2\], by reset float32\[1\]"),
        (IntegerState(), r"step: state is float32\[\], by reset int32\[\]"),
        (TwoRewards(), r"reward must be a single number, got shape \(2,\)"),
        (Branches(), "reset.*cannot be traced: TracerBoolConversionError"),
    ],
)
def test_what_is_wrong_is_named(env, message):
    with pytest.raises(
        ValueError, match=f"task 'corridor' must keep gymnax's contract: .*{message}"
    ):
        check_contract(env, 3.0)


def test_whoever_steps_a_task_asks_first():
    task = (IntegerEnds(), 3.0)
    message = "contract: terminated must be a bool"
    calls = [
        lambda: train(AGENT, task, 0, 8),
        lambda: jaxrl_se.start(AGENT, task, 0, 8),
        lambda: jaxrl_se.evaluate(lambda obs, key: 0, task, 0, 2),
        lambda: envs.collect(*task, 8, 0),
        lambda: evolve(task, EvolutionConfig(agent=AGENT)),
        lambda: jaxrl_se.learning_curve(AGENT, task, 0, 8, num_points=1),
        lambda: jaxrl_se.TaskTest.of(task),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"gravity": 9.8}, r"params must be those of 'CartPole-v1', .*Params.*gravity"),
        (3.0, "params must be those of 'CartPole-v1'"),
        (envs.make("Pendulum-v1")[1], "params must be those of 'CartPole-v1'"),
        (
            envs.make("CartPole-v1")[1].replace(gravity="9.8"),
            r"params.gravity must be a number or an array, got '9.8'",
        ),
    ],
)
def test_params_of_others_are_named(params, message):
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(TypeError, match=message):
        train(AGENT, env, params, 0, 8)
    with pytest.raises(TypeError, match=message):
        jaxrl_se.evaluate(lambda obs, key: 0, env, params, 0, 2)


def test_good_tasks_pass():
    for name in ("CartPole-v1", "Pendulum-v1", "Cliff", "GridWorld"):
        check_contract(*envs.make(name))
    check_contract(*jaxrl_se.load("CartPole-v1"))


def test_names_stand_for_tasks():
    assert jaxrl_se.Spaces.of("CartPole-v1") == jaxrl_se.Spaces(4, 2)
    assert jaxrl_se.Spaces.of(envs.make("CartPole-v1")) == jaxrl_se.Spaces(4, 2)
    assert jaxrl_se.Spaces.of(envs.open_task("CartPole-v1")) == jaxrl_se.Spaces(4, 2)
    with pytest.raises(TypeError, match="env must be a gymnax environment"):
        jaxrl_se.Spaces.of(3)
    assert envs.GymnasiumEnv("CartPole-v1").observation_space.shape == (4,)
    assert envs.GymnasiumVectorEnv("CartPole-v1", num_envs=2).num_envs == 2
    env, params = envs.make("CartPole-v1")
    assert envs.PartlyObserved("CartPole-v1", (0, 2)) == envs.PartlyObserved(
        env, (0, 2)
    )
    assert env.default_params == params

"""`reward=` and `terminated=` are tried before anything is fitted."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
import oswm
from oswm import conditioning, worlds


@pytest.fixture(scope="module")
def rows():
    """Of continuous actions [1]."""
    return envs.collect(envs.make("Pendulum-v1"), 60, key=0)


@pytest.fixture
def unfitted(monkeypatch):
    def fit(*_):
        raise AssertionError("fitted before the function was tried")

    for module in (conditioning, worlds):
        monkeypatch.setattr(module, "fit", fit)


NOT_TRACED = {
    "max": lambda o, a, o2: -0.5 * max(0, 20 - o2[0]),
    "if": lambda o, a, o2: 1.0 if o2[0] > 0 else 0.0,
    "and": lambda o, a, o2: (o2[0] > 0) and (o2[1] > 0),
    "float": lambda o, a, o2: float(o2[0]),
    "math": lambda o, a, o2: math.sqrt(o2[0]),
    "numpy": lambda o, a, o2: np.maximum(0, o2[0]),
    "masks": lambda o, a, o2: o2[o2 > 0].sum(),
}


@pytest.mark.parametrize("argument", ["reward", "terminated"])
@pytest.mark.parametrize("name", NOT_TRACED)
def test_what_jax_cannot_trace_is_told_before_anything_is_fitted(
    rows, unfitted, name, argument
):
    with pytest.raises(ValueError, match=f"^{argument} is traced by JAX") as told:
        oswm.condition(rows, model=oswm.Ridge(), **{argument: NOT_TRACED[name]})
    text = str(told.value)
    assert "obs and next_obs float32 [3] and action float32 [1]" in text
    assert "jnp.maximum instead of max, jnp.where instead of if" in text
    assert type(told.value.__cause__).__name__ in text and "\n" not in text


WRONG = {
    "reward must return one float, got float32 of shape .3,.*next_obs.0.": {
        "reward": lambda o, a, o2: -jnp.abs(o2)
    },
    "terminated must return one bool, got bool of shape .3,": {
        "terminated": lambda o, a, o2: o2 > 0
    },
    "reward must return a float, got None": {"reward": lambda o, a, o2: None},
    "reward must return a float, got 'much'": {"reward": lambda o, a, o2: "much"},
    "reward must return a real number, got complex64": {
        "reward": lambda o, a, o2: o2[0] + 1j
    },
    "terminated must return a bool, got float32.*give a comparison": {
        "terminated": lambda o, a, o2: o2[0]
    },
    "reward must be a function that takes obs and .* got KeyError: 'x'": {
        "reward": lambda o, a, o2: {}["x"]
    },
    "terminated must be a function that takes .* got TypeError: .*immutable": {
        "terminated": lambda o, a, o2: o2.__setitem__(0, 1.0)
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_a_result_that_is_none_is_refused(rows, unfitted, message):
    with pytest.raises(ValueError, match=message):
        oswm.condition(rows, model=oswm.Ridge(), **WRONG[message])


@pytest.mark.parametrize("function", [jaxrl_se.solve, jaxrl_se.evolve_from_log])
def test_solving_and_evolving_say_it_as_early(rows, unfitted, function):
    for argument in ("reward", "terminated"):
        with pytest.raises(ValueError, match=f"^{argument} is traced by JAX"):
            function(rows, progress=False, **{argument: NOT_TRACED["if"]})


@pytest.mark.parametrize(
    ("reward", "terminated"),
    [
        (
            lambda o, a, o2: -0.5 * jnp.maximum(0, 20 - o2[0]),
            lambda o, a, o2: o2[0] > 9,
        ),
        (lambda o, a, o2: 3, lambda o, a, o2: False),
        (lambda o, a, o2: o2[:1] > 0, lambda o, a, o2: jnp.int32(0)),
        (lambda o, a, o2: np.float64(2.0) * a, lambda o, a, o2: o2[:1] > 9),
    ],
)
def test_what_works_is_taken(rows, reward, terminated):
    env, params = oswm.condition(
        rows, model=oswm.Ridge(), reward=reward, terminated=terminated
    )
    key, action = jax.random.key(0), np.ones(1, np.float32)
    _, state = env.reset(key, params)
    _, _, paid, ended, _ = env.step_env(key, state, action, params)
    assert paid.shape == ended.shape == () and not ended


def test_discrete_actions_are_one_integer(unfitted):
    rows = envs.collect("CartPole-v1", 60, key=0)
    seen = []

    def reward(obs, action, next_obs):
        seen.append((obs.shape, action.shape, action.dtype, next_obs.shape))
        return action[0]

    with pytest.raises(ValueError, match=r"action int32 \[\], as traced by JAX; got"):
        oswm.condition(rows, model=oswm.Ridge(), reward=reward)
    assert seen == [((4,), (), jnp.int32, (4,))]

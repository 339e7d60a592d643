"""Rules beside settings: good values pass, every kind of bad one is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl_runs.values import (
    COUNT,
    DISCOUNT,
    FLAG,
    LAYERS,
    POSITIVE,
    STEPS,
    Function,
    Number,
    OneOf,
    as_key,
    check,
    static,
    traced,
)


@struct.dataclass
class Agent:
    learning_rate: float = traced(1e-3, POSITIVE)
    discount: float = traced(0.99, DISCOUNT)
    decay: float | None = traced(None, Number(above=0, at_most=1, optional=True))
    starts: int = traced(32, STEPS)
    double: bool = static(True, FLAG)
    batch_size: int = static(32, COUNT)
    hidden_sizes: tuple = static((64,), LAYERS)
    activation: str = static("relu", OneOf(("relu", "tanh")))
    extra: object = None


GOOD = {
    "learning_rate": [1, 1e-8, np.float32(0.1), jnp.float32(0.1), np.array(0.1)],
    "discount": [1.0, 0.5],
    "decay": [None, 0.9],
    "starts": [0, 100, 100.0, np.int64(3)],
    "double": [False, np.bool_(True)],
    "batch_size": [1, np.int32(7)],
    "hidden_sizes": [(), (1, 2)],
    "activation": ["tanh"],
}
NEVER = [None, "a", b"a", -1, float("nan"), float("-inf"), 1j, object(), {}, [[]]]
BAD = {
    "learning_rate": [*NEVER, 0, True, np.array([0.1]), np.array([]), 10**400, 1e39],
    "discount": [*NEVER, 0.0, 1.01, float("inf")],
    "decay": [*NEVER[1:], 0],
    "starts": [*NEVER, 1.5, float("inf")],
    "double": [*NEVER, 1, 0.0],
    "batch_size": [*NEVER, 0, 1.0, 1.5, True, 2**31, np.array([3])],
    "hidden_sizes": [*NEVER, [64], 64, (0,), (64, -1), (1.5,), "64", np.array([64])],
    "activation": [*NEVER, "Relu", ""],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_values_pass(name):
    for value in GOOD[name]:
        check(Agent().replace(**{name: value}))


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_named(name):
    for value in BAD[name]:
        with pytest.raises(ValueError, match=rf"Agent\.{name}.* must be "):
            check(Agent().replace(**{name: value}))


def test_messages_say_what_was_expected():
    with pytest.raises(ValueError, match=r"above 0 and of at most 1, got 2"):
        check(Agent(discount=2))
    with pytest.raises(ValueError, match=r"hidden_sizes\[1\] must be an integer"):
        check(Agent(hidden_sizes=(64, 0)))
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        check(Agent(activation="Relu"))


def test_nothing_is_looked_at_inside_a_program():
    def traced_check(agent):
        check(agent)
        return agent.learning_rate

    assert jax.jit(traced_check)(Agent(learning_rate=2.0)) == 2.0


def test_keys():
    key = jax.random.key(3)
    for same in (3, np.int64(3), key, jax.random.PRNGKey(3)):
        assert as_key(same) == key
    assert as_key(np.asarray(jax.random.PRNGKey(3))) == key
    keys = [as_key(s) for s in (0, 3, 2**32, 2**32 + 3, 2**33 + 3, 2**63 - 1)]
    assert len({tuple(jax.random.key_data(k).tolist()) for k in keys}) == 6
    with jax.enable_x64(True):
        assert as_key(2**33 + 3) == keys[4]
    batch = jax.random.split(key, 2)
    for bad in (
        -1,
        np.int64(-1),
        2**63,
        1.0,
        True,
        None,
        "0",
        batch,
        np.zeros(3),
        jax.random.PRNGKey,
    ):
        with pytest.raises(ValueError, match="key must be a seed"):
            as_key(bad)


def test_functions_take_what_they_are_called_with():
    rule = Function("(obs, action, next_obs) -> bool", optional=True)
    for good in (None, lambda obs, action, next_obs: True, lambda *all: True, max):
        rule.check("terminated", good)
    message = r"terminated must be .* got one that takes \(obs\)"
    with pytest.raises(TypeError, match=message):
        rule.check("terminated", lambda obs: True)

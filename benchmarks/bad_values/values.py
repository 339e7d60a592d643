"""Wrong values by the kind of a parameter.

They are written down here and not derived from the rules in the code, which they test.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl_se
import oswm
from benchmarks.bad_values.broken_tasks import BROKEN


class Odd:
    """Nothing that anybody asks for."""

    def __repr__(self) -> str:
        """Longer than a line."""
        return "<Odd " + "\n".join(["long"] * 50) + ">"


_NO_NUMBER = [None, "x", "1", b"1", 1j, Odd(), {}, [], (), (1,), int, float("nan")]
_NO_NUMBER += [np.ones(2), jnp.ones((1, 1)), np.array("x"), np.datetime64("2020-01-01")]
_NUMBER = [*_NO_NUMBER, float("inf"), float("-inf"), 10**400, 1e39, True, np.bool_(1)]
_COUNT = [*_NUMBER, 0, -1, 1.5, 1.0, -(2**40), 2**40, np.float32(2), np.array([3])]

BAD: dict[str, list[Any]] = {
    "number": _NUMBER,
    "positive": [*_NUMBER, 0, 0.0, -1, -1e-9, np.float32(-1)],
    "not negative": [*_NUMBER, -1, -1e-9, np.float64(-2)],
    "rate": [*_NUMBER, 0, -0.1, 1.5, 100, np.float32(2)],
    "share": [*_NUMBER, -0.1, 1.5, 100, np.float32(2)],
    "return": _NUMBER,
    "whole number": [*_NUMBER, -1, 1.5, 2**40, np.float32(0.5)],
    "positive whole number": [*_NUMBER, 0, -1, 1.5, np.float32(0.5)],
    "count": _COUNT,
    "index": _COUNT,
    "flag": [None, "yes", "", 0, 1, -1, 0.0, 2.5, [], (), Odd(), np.ones(2), bool],
    "name": ["", "nonsense", "Tanh ", None, 3, 1.5, b"tanh", [], (), {}, Odd(), str],
    "text": ["", 3, 1.5, b"name", [], (), {}, Odd(), str, True],
    "layers": [
        None,
        64,
        1.5,
        "64",
        [64],
        (0,),
        (64, -1),
        (1.5,),
        ("64",),
        ((64,),),
        (None,),
        (True,),
        (2**30,),
        {64},
        np.array([64]),
        tuple,
        float("nan"),
    ],
    "key": [
        None,
        -1,
        1.5,
        1.0,
        "0",
        "",
        True,
        [],
        (),
        {},
        Odd(),
        float("nan"),
        1j,
        jax.random.split(jax.random.key(0), 2),
        np.zeros(2),
        np.zeros(3, np.uint32),
        jax.random.key_data(jax.random.split(jax.random.key(0), 3)),
        jnp.float32(1),
        jax.random.PRNGKey,
        2**63,
        2**70,
        -(2**70),
        np.int64(-1),
        np.array([0, 1]),
    ],
    "task": [
        None,
        "",
        "CartPole",
        "Cart-Pole v1",
        3,
        1.5,
        True,
        [],
        (),
        {},
        Odd(),
        (1,),
        (1, 2, 3),
        (None, None),
        ("CartPole-v1", None),
        int,
        np.zeros(3),
        type(envs.make("CartPole-v1")[0]),
        gymnasium.make("CartPole-v1"),
        gymnasium.make_vec("CartPole-v1", 2),
        lambda: None,
        jaxrl_se.DDQN(),
    ],
    "outer task": [
        None,
        "",
        "CartPole",
        3,
        1.5,
        True,
        [],
        (),
        {},
        Odd(),
        (1,),
        int,
        (1, 2, 3),
        (None, None),
        ("CartPole-v1", None),
        np.zeros(3),
        jaxrl_se.SAC,
        type(envs.make("CartPole-v1")[0]),
        float("nan"),
        b"CartPole-v1",
    ],
    "agent": [
        None,
        "ddqn",
        3,
        1.5,
        True,
        [],
        (),
        {},
        Odd(),
        jaxrl_se.DDQN,
        jaxrl_se.PPO,
        (None,),
        envs.make("CartPole-v1"),
        np.zeros(3),
        jaxrl_se.RND(),
        jaxrl_se.Solved(1.0),
        "PPO",
        int,
        float("nan"),
        lambda: None,
    ],
    "object": [
        "x",
        3,
        1.5,
        True,
        [1],
        (1, 2),
        {"a": 1},
        Odd(),
        int,
        np.zeros(3),
        float("nan"),
        lambda: None,
        b"x",
        1j,
        jaxrl_se.SAC,
        object(),
    ],
    "function": ["x", 3, 1.5, True, [], (), {}, Odd(), np.zeros(3), float("nan"), b""],
    "path": [3, 1.5, True, [], (), {}, Odd(), b"x", np.zeros(3), "", "a\0b", int],
    "ranges": [
        "tasks",
        3,
        1.5,
        [],
        (),
        {},
        Odd(),
        (1, 2),
        ((1, 0),),
        ((0, 0),),
        int,
        ((0, float("nan")),),
        ((0, float("inf")),),
        ((0, 1, 2),),
        (("0", "1"),),
        np.zeros((4, 2)),
        [[0, 1]],
        ((None, 1),),
    ],
    "stages": [None, 3, "3", [3], (1,), (3, 1), (-1,), (1.5,), (None,), Odd()],
    "distribution": [
        None,
        1e-3,
        "x",
        (1e-4, 1e-2),
        [1, 2],
        {},
        Odd(),
        jaxrl_se.Uniform,
        np.zeros(2),
        float("nan"),
        int,
        jaxrl_se.DDQN(),
    ],
    "numbers": [None, 3, "x", [], (), ("a",), (None,), (float("nan"),), Odd(), {1}],
    "choices": [None, 3, "resnet", b"x", (), [], {}, Odd(), (1, 1), 1.5, int],
    "values": [None, 3, "resnet", b"x", (), [], {}, Odd(), 1.5, int],
    "names": [None, 3, "resnet", b"x", (), [], {}, Odd(), 1.5, int, ("a", 1), ("",)],
    "increasing": [
        None,
        3,
        "12",
        (),
        [],
        {},
        Odd(),
        (1, 1),
        (2, 1),
        ("a", "b"),
        1.5,
        (float("nan"),),
        (None, 1),
    ],
}

BAD["opened task"] = list(BAD["outer task"])
_BROKEN_TASKS = [(kind(), 3.0) for kind in BROKEN]
BAD["task"] += _BROKEN_TASKS
BAD["outer task"] += _BROKEN_TASKS
BAD["seed"] = [-1, 1.5, "a", b"1", True, Odd(), {}, 2**63, float("nan"), np.float32(1)]
BAD["channels"] = [*BAD["positive"], 224]
BAD["params"] = [3.0, "x", {}, {"gravity": 9.8}, (1,), Odd(), int, np.zeros(3)]
BAD["params"] += [envs.make("Pendulum-v1")[1], lambda: None, 1j]
BAD["params"] += [envs.make("CartPole-v1")[1].replace(gravity="9.8")]
BAD["policy"] = [
    lambda obs, key: 7,
    lambda obs, key: jnp.int32(-1),
    lambda obs, key: jnp.array([0.1, 0.9]),
    lambda obs, key: 0.5,
    lambda obs, key: jnp.float32(1.0),
    lambda obs, key: None,
    lambda obs, key: "left",
    lambda obs, key: (0, obs),
    lambda obs, key: obs @ jnp.ones((9, 2)),
    lambda obs, key: jnp.zeros((1, 2), int),
    lambda obs: 0,
]
BAD["places"] = [x for x in BAD["layers"] if x != [64] and x != (0,)]
BAD["mapping"] = [x for x in BAD["object"] if not isinstance(x, dict)]
BAD["varied agent"] = [x for x in BAD["agent"] if not isinstance(x, jaxrl_se.RND)]
BAD["scales"] = [*BAD["numbers"], (0,), (-1.0,), (float("inf"),), [1.0], (True,)]
BAD["smoothness"] = [None, 3, 1.5, "gaussian", (), ("cosine",), ["gaussian"], (1,)]
BAD["model"] = [*BAD["object"], oswm.KernelRidge, oswm.Ridge, jaxrl_se.DDQN()]
BAD["log"] = [None, 3, 1.5, [], (), Odd(), int, np.zeros(3), True]
BAD["space"] = ["x", 3, 1.5, [], {}, Odd(), int, np.zeros(3), True, (0, 1)]
BAD["starts"] = ["x", 3, 1.5, [], {}, Odd(), int, np.zeros(3), np.zeros((0, 1))]
BAD["starts"] += [np.full((1, 1), np.nan), ["a"], True]
BAD["starts of any size"] = list(BAD["starts"])
BAD["starts"] += [np.zeros((2, 2))]
BAD["budget"] = BAD["norm"] = BAD["positive"]
BAD["source"] = [x for x in BAD["object"] if not isinstance(x, str | dict)]
_GOOD = {
    "return": (float("inf"), None),
    "budget": (float("inf"),),
    "norm": (float("inf"),),
    "index": (0,),
}


def bad_values(kind: str, without: tuple[Any, ...] = ()) -> list[Any]:
    """Values that no parameter of a kind may take.

    Args:
        kind: A key of `BAD`; with " or none" behind it None is a good one.
        without: Values that are good ones here.
    """
    values = BAD[kind.removesuffix(" or none")]
    good = [*without, *_GOOD.get(kind, ()), *([None] if "or none" in kind else [])]
    return [v for v in values if not any(_same(v, g) for g in good)]


def _same(a: Any, b: Any) -> bool:
    return a is b or (
        type(a) is type(b) and isinstance(a, int | float | str) and a == b
    )

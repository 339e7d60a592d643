"""Several worlds from one log: each generation of an evolution is played in one.

What is evolved in a single model learns to use its errors. Models of parts of the log
err differently, so that what holds in all of them is the log's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl_runs.compilation import quick_jit
from jaxrl_runs.values import INDEX, RATE, Integer
from oswm.conditioning import condition
from oswm.context import Context
from oswm.ends import Ends, take_apart
from oswm.environment import WorldModelEnv, WorldModelParams
from oswm.fitting import ends_of, fit
from oswm.inputs import Log, read_log
from oswm.sub_contexts import SubContexts
from oswm.world_model import WorldModel


@struct.dataclass
class WorldsParams(WorldModelParams):
    """Params of the model of a whole log, with those of its parts beside it.

    Attributes:
        members: What models of parts of the context have in the place of `cache` and
            `ends`, by these names, with a leading axis [W].
        end_pay_error: Mean squared error of what ends pay, over all rows, as parts say
            it of ends that they have not seen; 0 where ends pay nothing.
    """

    members: Any = None
    end_pay_error: float = 0.0


def condition_worlds(
    log: Log,
    num_worlds: int = 5,
    *,
    fraction: float = 0.7,
    seed: int = 0,
    action_space: Any = None,
    model: WorldModel[Any] | None = None,
    **settings: Any,
) -> tuple[WorldModelEnv, WorldsParams]:
    """Like `condition`, with models of parts of the log to draw worlds from.

    The pair is that of the whole log. `draw_world` puts a part's model in its place:

        env, params = oswm.condition_worlds(log)
        task = envs.Task("log", env, params, kind="model", vary=oswm.draw_world)

    Args:
        log: As for `condition`.
        num_worlds: Parts, at least 2.
        fraction: Share of the rows in each, drawn without replacement.
        seed: Of the draw.
        action_space: As for `condition`.
        model: A world model; the shipped one by default.
        **settings: Of `condition`.

    Raises:
        ValueError: As `condition`, or `num_worlds` or `fraction` are out of range.
    """
    Integer(at_least=2, at_most=2**16).check("num_worlds", num_worlds)
    RATE.check("fraction", fraction)
    INDEX.check("seed", seed)
    log = read_log(log)
    env, params = condition(log, action_space, model=model, **settings)
    context = take_apart(Context.of(log, action_space))
    # One after the other, by the program that has fitted the whole log.
    masks = SubContexts(env.model, num_worlds, fraction, seed).masks(context)
    parts = [dataclasses.replace(context, mask=mask) for mask in masks]
    members = _stacked(
        *(
            {
                "cache": fit(env.model, part),
                "ends": None if params.ends is None else ends_of(part),
            }
            for part in parts
        )
    )
    fields = {name: getattr(params, name) for name in params.__dataclass_fields__}
    error = _end_pay_error(context, masks, members["ends"])
    return env, WorldsParams(**fields, members=members, end_pay_error=error)


def _end_pay_error(context: Context, masks: Any, ends: Ends | None) -> float:
    """Of ends that each part has not seen; their share is that of all rows."""
    if ends is None:
        return 0.0
    rows = np.flatnonzero(np.asarray(context.terminated * context.mask) > 0)
    paid = np.asarray(context.end_pay)[rows]
    said = _pays(ends, context.next_obs[rows], context.action[rows])
    is_new = np.asarray(masks)[:, rows] == 0
    if not is_new.any():
        return 0.0
    error = np.square(np.asarray(said) - paid)[is_new].mean()
    return float(error * len(rows) / np.sum(np.asarray(context.mask)))


@quick_jit
def _pays(ends: Ends, next_obs: jax.Array, action: jax.Array) -> jax.Array:
    """By ends [W] of rows [E], [W, E]."""
    rows = jax.vmap(Ends.pay, (None, 0, 0))
    return jax.vmap(rows, (0, None, None))(ends, next_obs, action)


@quick_jit
def _stacked(*caches: Any) -> Any:
    return jax.tree.map(lambda *x: jnp.stack(x), *caches)


def draw_world(
    params: WorldsParams, key: jax.Array, generation: jax.Array | int
) -> WorldsParams:
    """The params of one of the worlds, for the `vary` of a task.

    Args:
        params: What `condition_worlds` returned.
        key: A PRNG key.
        generation: Counts; together with the key it decides.
    """
    count = jax.tree.leaves(params.members)[0].shape[0]
    row = jax.random.randint(jax.random.fold_in(key, generation), (), 0, count)
    return dataclasses.replace(params, **jax.tree.map(lambda x: x[row], params.members))

"""Programs that fit a model to a context, compiled once for each model and shape."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_runs.compilation import quick_options
from oswm.closed_form import ClosedForm
from oswm.context import Context
from oswm.ends import Ends, of_ends_alone
from oswm.environment import explained
from oswm.model import TransformerModel, check_sizes
from oswm.noise import Noise, is_noisy
from oswm.support import Support
from oswm.termination import Termination
from oswm.world_model import WorldModel, check_world_model

_NUM_THREADS = 4


def fit(model: WorldModel[Any], context: Context) -> Any:
    """A model's cache of a context.

    Raises:
        TypeError: The model is no world model.
        ValueError: What it predicts has another shape than a step.
    """
    check_world_model(model, context, functools.partial(_fit, call=_shapes))
    # XLA compiles outside of Python's lock: what one thread traces another compiles,
    # and what is compiled runs while others are.
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        compiled: list[Future] = []

        def compile_soon(program, *arguments):
            compiled.append(pool.submit(program.lower(*arguments).compile))
            return _shapes(program, *arguments)

        _fit(model, context, compile_soon)
        programs = iter(compiled)

        def run(program, *arguments):
            next(programs).result()
            return program(*arguments)  # It finds what was compiled.

        return _fit(model, context, run)


def ends_of(context: Context) -> Ends | None:
    """What ends pay, if a context says that they pay something of their own."""
    if context.end_pay is None:
        return None
    regress = _program(0, Termination.fit)
    return Ends.fit(context, regress(context), regress(of_ends_alone(context)))


def support_of(context: Context, margin: float) -> Support:
    """`Support.of`, compiled."""
    return _program(0, Support.of)(context, margin)


def noise_of(
    model: WorldModel[Any], cache: Any, context: Context, support: Support
) -> Noise | None:
    """What happens by chance between observations on a grid, if something does."""
    if not np.any(support.step > 0):
        return None
    rows = (jnp.asarray(x) for x in (context.obs, context.action, context.next_obs))
    mean, reward = explained(model, cache, *rows)
    if not _program(0, is_noisy)(context, support, mean):
        return None
    return _program(0, Noise.fit)(context, support, mean, reward)


def _shapes(program: Any, *arguments: Any) -> Any:
    """Shapes and dtypes of what a program returns; it is traced once for all calls."""
    return program.eval_shape(*arguments)


def _fit(model: Any, context: Context, call: Callable[..., Any]) -> Any:
    """A cache, by whatever `call` makes of the programs and their arguments."""
    if type(model).fit not in (ClosedForm.fit, TransformerModel.fit):
        return call(_method("fit"), model, context)
    if isinstance(model, TransformerModel):
        check_sizes(context)
    found = []
    for part in model.parts:
        steps: list[Any] = []
        for index, stage in enumerate(part.stages):
            steps.append(call(_stage(index, stage.level), part, context, *steps))
        found.append(steps[-1])
    return call(_method("read"), model, context, found)


@functools.cache
def _method(name: str) -> Any:
    """A method of a model, which is static."""
    return _compiled(lambda model, *rest: getattr(model, name)(*rest), 0, static=True)


@functools.cache
def _stage(index: int, level: int) -> Any:
    """One of a model's `stages`; the model is static."""
    return _compiled(
        lambda model, *rest: model.stages[index].function(*rest), level, static=True
    )


@functools.cache
def _program(level: int, function: Callable[..., Any]) -> Any:
    return _compiled(function, level)


def _compiled(function: Callable[..., Any], level: int, static: bool = False) -> Any:
    return jax.jit(
        function,
        static_argnums=0 if static else None,
        compiler_options=quick_options(level, side_by_side=True),
    )

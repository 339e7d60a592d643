"""What a world model is: `fit` a context, `predict` a step, `sample` one.

A new one is a frozen dataclass with three methods, pure functions of arrays; nothing
has to be registered or inherited:

    @dataclasses.dataclass(frozen=True)
    class MeanChange:
        def fit(self, context):
            weight = context.mask[:, None] / jnp.sum(context.mask)
            return jnp.sum(weight * (context.next_obs - context.obs), axis=0)

        def predict(self, cache, obs, action):
            return Prediction(
                next_obs_mean=obs + cache,
                next_obs_std=jnp.ones_like(obs),
                reward_mean=jnp.float32(0.0),
                reward_std=jnp.float32(1.0),
                terminated_prob=jnp.float32(0.0),
            )

        def sample(self, cache, obs, action, key):
            return self.predict(cache, obs, action).sample(key)

    env, params = oswm.condition(log, model=MeanChange())

What is fixed (sizes, candidates) are fields, which compiled programs are keyed by;
what comes of the context is the cache, which is traced: it lies in the params of the
environment, so one compiled program serves any context of as many rows. A regression
that reports its residuals inherits from `oswm.closed_form.ClosedForm` instead and gets
termination, calibration and its place among the transformer's bases with it.
`tests/oswm/test_world_model.py` holds a whole example.

A model may have a fourth method, `outcome(cache, obs, action, next_obs, prediction)`:
what has to be added to the predicted reward, and the probability of an end, of a step
that is known to have led to `next_obs`. Environments draw where a step leads and then
ask it; without it, reward and end are those of the prediction, whatever was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax

from jaxrl_runs.values import shown
from oswm.context import Context, Prediction

Cache = TypeVar("Cache")


@runtime_checkable
class WorldModel(Protocol[Cache]):
    """Learns a task from a context; equal and hashable by its settings.

    All methods are called under `jax.jit` and `jax.vmap`. `Cache` is a pytree of arrays
    whose shapes depend on the context's shapes alone.
    """

    def fit(self, context: Context) -> Cache:
        """Computes all that depends on the context alone.

        Rows whose `context.mask` is 0 are padding and must not matter.

        Args:
            context: N rows of S observations and A action dimensions.
        """
        ...

    def predict(self, cache: Cache, obs: jax.Array, action: jax.Array) -> Prediction:
        """Predicts one step.

        Args:
            cache: What `fit` returned.
            obs: Observation, float32 [S].
            action: Action as a vector, float32 [A]; one-hot if it is discrete.
        """
        ...

    def sample(
        self, cache: Cache, obs: jax.Array, action: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws one step, from the same arguments and a key.

        Returns:
            Next observation, float32 [S], reward, float32 scalar, and termination,
            bool scalar. `predict(...).sample(key)` draws from independent Gaussians.
        """
        ...


def check_world_model(
    model: Any, context: Context, shape_of_fit: Callable[[Any, Context], Any]
) -> None:
    """Traces a model on a context, so that a mistake shows before anything compiles.

    Args:
        model: What is to be checked.
        context: A context.
        shape_of_fit: Gives the cache's shapes and dtypes from both; that of a jitted
            function keeps what it traced for the call that follows.

    Raises:
        TypeError: A method is missing, or the model is not hashable.
        ValueError: What `predict` or `sample` return has another shape than a step.
    """
    if isinstance(model, type) or not isinstance(model, WorldModel):
        raise TypeError(
            "model must be a world model, an object with fit, predict and sample, got "
            + (
                f"the class {model.__name__}; write {model.__name__}()"
                if isinstance(model, type)
                else shown(model)
            )
        )
    try:
        hash(model)
    except TypeError as error:
        raise TypeError(
            "model must be hashable, as a frozen dataclass of numbers and tuples is "
            f"({error})"
        ) from error
    cache = shape_of_fit(model, context)
    if _is_own(model):
        return
    size = context.obs_size
    obs, action, key = context.obs[0], context.action[0], jax.random.key(0)
    found = jax.eval_shape(model.predict, cache, obs, action)
    for name, wanted in (
        ("next_obs_mean", (size,)),
        ("next_obs_std", (size,)),
        ("reward_mean", ()),
        ("reward_std", ()),
        ("terminated_prob", ()),
    ):
        _check_shape(f"predict: {name}", getattr(found, name), wanted)
    drawn = jax.eval_shape(model.sample, cache, obs, action, key)
    for name, each, wanted in zip(
        ("next_obs", "reward", "terminated"), drawn, ((size,), (), ()), strict=True
    ):
        _check_shape(f"sample: {name}", each, wanted)


def _is_own(model: Any) -> bool:
    """Whether this package's tests have seen the shapes of what it predicts."""
    parts = (model, *getattr(model, "parts", ()))
    return all(type(part).__module__.startswith("oswm.") for part in parts)


def _check_shape(name: str, found: Any, wanted: tuple[int, ...]) -> None:
    if found.shape != wanted:
        raise ValueError(f"model.{name} must have shape {wanted}, got {found.shape}")

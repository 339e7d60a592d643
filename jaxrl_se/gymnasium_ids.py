"""Shipped environments under ids of Gymnasium: `jaxrl_se/CartPole-v1`, ...

Gymnasium 1.x looks for no plugins, so ids exist once this package is imported:

>>> import gymnasium, jaxrl_se
>>> env = gymnasium.make("jaxrl_se/CartPole-v1")
>>> vector = gymnasium.make_vec("jaxrl_se/CartPole-v1", 16, variant="multi-step")

Without an import, the module's name goes before the id:
`gymnasium.make("jaxrl_se:jaxrl_se/CartPole-v1")`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from envs import GymnasiumEnv, GymnasiumVectorEnv
from jaxrl_se.zoo import SHIPPED, available, load

NAMESPACE = "jaxrl_se"


def make(name: str, variant: str, **options: Any) -> GymnasiumEnv:
    """A shipped environment; what `gymnasium.make` calls."""
    options.pop("render_mode", None)
    return GymnasiumEnv(*load(name, variant), **options)


def make_vec(
    name: str, variant: str, num_envs: int, **options: Any
) -> GymnasiumVectorEnv:
    """Copies of a shipped environment; what `gymnasium.make_vec` calls."""
    options.pop("render_mode", None)
    return GymnasiumVectorEnv(*load(name, variant), num_envs, **options)


def register() -> None:
    """Registers an id for each task of which an environment is shipped.

    The variant is the first shipped one of one-step, multi-step, reward-network;
    `variant="..."` chooses another.
    """
    variants: dict[str, str] = {}
    for name, variant in sorted(available(), key=lambda pair: SHIPPED.index(pair[1])):
        variants.setdefault(name, variant)
    for name, variant in variants.items():
        env_id = f"{NAMESPACE}/{name}"
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point=f"{__name__}:make",
                vector_entry_point=f"{__name__}:make_vec",
                kwargs={"name": name, "variant": variant},
            )

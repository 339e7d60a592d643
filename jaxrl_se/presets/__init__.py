"""Published systems as configurations of `jaxrl_se.evolve`."""

from jaxrl_se.presets.ferreira2022 import ferreira2022

__all__ = ["ferreira2022"]

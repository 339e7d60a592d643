"""Published systems as configurations of ours."""

from jaxrl_se.presets.ferreira2022 import ferreira2022
from jaxrl_se.presets.ferreira2022_icm import ferreira2022_icm
from jaxrl_se.presets.liesen2024 import liesen2024_agents, vary_like_liesen2024

__all__ = [
    "ferreira2022",
    "ferreira2022_icm",
    "liesen2024_agents",
    "vary_like_liesen2024",
]

"""Imports gymnax without what only its pictures need.

gymnax imports all of its environments, and some of these seaborn and pyplot to draw:
with them SciPy's statistics and pandas, 1.5 of the 3.3 seconds that `import jaxrl_se`
took. Here they stand in as modules that load when something of theirs is asked for.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

_FOR_PICTURES = ("seaborn", "matplotlib.pyplot")


class _Later(types.ModuleType):
    """A module that is imported when it is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def _import_gymnax() -> None:
    missing = [name for name in _FOR_PICTURES if name not in sys.modules]
    sys.modules.update({name: _Later(name) for name in missing})
    try:
        importlib.import_module("gymnax")
    finally:  # Whoever else imports them gets the real ones.
        for name in missing:
            del sys.modules[name]


if "gymnax" not in sys.modules:
    _import_gymnax()

"""Warnings that point at the user's line, however deep they arise."""

from __future__ import annotations

import sys
import warnings

_OURS = {"envs", "finetune", "hardviews", "jaxrl_runs", "jaxrl_se", "oswm"}


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """`warnings.warn` as of the innermost line that is outside of these packages.

    Args:
      text: What to say.
      category: Class of the warning.
    """
    level, frame = 1, sys._getframe()
    # By module: the methods that dataclasses write for themselves have no file.
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)

"""Notices when a folder of the user's own hides a package of ours.

``envs`` and ``benchmarks`` are common names. Python takes the first one on its path,
and that is often the folder that a script stands in. Checked once, on import.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from jaxrl_runs.warn import warn_user

_HOME = Path(__file__).resolve().parent.parent
_NEEDED = ("envs", "oswm", "finetune", "hardviews", "jaxrl_se")
_COMMANDS = "benchmarks"


def hidden_by(name: str, home: Path = _HOME) -> Path | None:
    """What Python would import under a name instead of our package, if anything.

    Args:
        name: A package of ours.
        home: Where our packages are installed.

    Returns:
        The other package's folder or file; None where ours is found, or not installed.
    """
    if not (home / name / "__init__.py").is_file():
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # half imported, by something without a spec
        return None
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).resolve()
    if found == home / name / "__init__.py":
        return None
    return found.parent if found.name == "__init__.py" else found


def check() -> None:
    """Makes sure that our packages are the ones that an import finds.

    Raises:
        ImportError: Another package hides one that the toolkit imports.

    Warns:
        UserWarning: Another package hides ``benchmarks``, which only its commands need.
    """
    for name in _NEEDED:
        other = hidden_by(name)
        if other is not None:
            raise ImportError(_message(name, other))
    other = hidden_by(_COMMANDS)
    if other is not None:
        warn_user(_message(_COMMANDS, other))


def _message(name: str, other: Path) -> str:
    return (
        f"{other} hides our package {name!r}, which is {_HOME / name}: rename yours, "
        f"or start Python where yours is not on its path, or put {_HOME} before it "
        f"(PYTHONPATH={_HOME})"
    )


check()

"""An environment of Python's own for a package that is only compared with."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path


def environment(name: str, requirements: tuple[str, ...]) -> Path:
    """The interpreter of an environment that has a package, made where there is none.

    Args:
      name: The package's; the environment lies under it in the user's cache folder.
      requirements: What pip installs.

    Raises:
      RuntimeError: It cannot be made.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "jaxrl_se" / name
    python, done = folder / "bin" / "python", folder / "installed"
    if done.exists():
        return python
    print(f"installing {name} and PyTorch in {folder}", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise RuntimeError(
            f"{name} cannot be installed; --python names the interpreter of an "
            "environment that has it"
        )
    done.touch()
    return python

"""One wrong value, one call: was it accepted, and if not, does the message help?"""

from __future__ import annotations

import dataclasses
import io
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from gymnax.environments import environment, spaces

import envs
from envs.contract import check_contract
from jaxrl_runs.run_folder import RunFolderError
from jaxrl_runs.values import shown

_ROOT = Path(envs.__file__).parents[1]
_OURS = tuple(
    str(_ROOT / name) + "/"
    for name in ("jaxrl_runs", "envs", "jaxrl_se", "oswm", "finetune", "hardviews")
)
VERDICTS = ("clear", "cryptic", "accepted")


class StartedError(Exception):
    """A program is being traced: whatever was given was accepted."""


class Untouched(environment.Environment):
    """A task that says so as soon as a program is traced.

    What is looked at before that, whether it keeps gymnax's contract, is looked at when
    it is made; what was found is kept.

    Args:
        kind: "discrete", "continuous", or "states" for states by number.
    """

    def __init__(self, kind: str = "discrete"):
        self.kind = kind
        self._is_armed = False
        check_contract(self, self.default_params)
        self._is_armed = True

    @property
    def name(self) -> str:
        """Environment name."""
        return "Untouched"

    @property
    def default_params(self) -> environment.EnvParams:
        """A short time limit."""
        return environment.EnvParams(max_steps_in_episode=10)

    def reset_env(self, key, params):
        """Never gets that far."""
        if self._is_armed:
            raise StartedError
        return jnp.zeros(3), environment.EnvState(time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        """Neither does this."""
        if self._is_armed:
            raise StartedError
        return jnp.zeros(3), state, jnp.float32(0), jnp.bool_(False), {}

    def observation_space(self, params):
        """Vectors of size 3."""
        if self.kind == "states":
            return envs.OneHot(3)
        return spaces.Box(-1.0, 1.0, (3,), jnp.float32)

    def action_space(self, params=None):
        """Two actions, or one in [-1, 1]."""
        if self.kind == "continuous":
            return spaces.Box(-1.0, 1.0, (1,), jnp.float32)
        return spaces.Discrete(2)


@dataclasses.dataclass(frozen=True)
class Case:
    """A call with one wrong value.

    Attributes:
        entry: What is called.
        argument: The parameter that is wrong.
        value: The wrong value.
        call: Calls it.
    """

    entry: str
    argument: str
    value: Any
    call: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"{self.entry}({self.argument}={shown(self.value)})"


def verdict(case: Case) -> tuple[str, str]:
    """What comes of a case.

    A clear refusal is a ValueError or TypeError (RunFolderError for folders) that our
    own code raised, that names the argument and says what it must be, and that came
    before anything was traced.

    Returns:
        One of `VERDICTS`, and the error in one line.
    """
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            case.call(case.value)
    except StartedError:
        return "accepted", "a program was traced"
    except (ValueError, TypeError, RunFolderError) as error:
        text = " ".join(str(error).split())
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        names_it = case.argument.removesuffix("s") in text
        says_what = any(word in text for word in (" must ", " needs ", "unknown task"))
        is_clear = raised_in.startswith(_OURS) and names_it and says_what
        found = "clear" if is_clear else "cryptic"
        return found, f"{type(error).__name__}: {text[:200]}"
    except Exception as error:
        text = " ".join(str(error).split())
        return "cryptic", f"{type(error).__name__}: {text[:200]}"
    return "accepted", "it returned"

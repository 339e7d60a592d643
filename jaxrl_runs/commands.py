"""How a command ends: one line for what a user can mend, exit codes as usual."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from jaxrl_runs.run_folder import RunFolderError, disk_problem

INTERRUPTED = 130  # 128 and the number of SIGINT
WRONG = 2
_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
)


def run_command(
    main: Callable[[], object], then: str = "continue with --resume"
) -> None:
    """Runs a command.

    Args:
        main: What it does.
        then: What can be done after Ctrl-C.

    Raises:
        SystemExit: With code 130 after Ctrl-C, with code 2 after an error that a user
            can mend; both are one line on stderr.
    """
    try:
        main()
    except KeyboardInterrupt:
        print(f"\ninterrupted; {then}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (ValueError, FloatingPointError, RunFolderError, OSError) as error:
        print(f"error: {_told(error)}", file=sys.stderr)
        sys.exit(WRONG)


def _told(error: Exception) -> str:
    """An error as one line; of a disk that takes no more, with what to do."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return disk_problem(error, error.filename or "a file")
    return str(error)

"""Where the golden vectors of the reference implementation lie."""

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden():
    """Reads a file of golden vectors."""
    import numpy as np

    def read(name: str) -> dict:
        with np.load(GOLDEN / name, allow_pickle=False) as file:
            return {key: file[key] for key in file}

    return read

"""Where the golden vectors of the reference implementation lie."""

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "oswm_golden"


@pytest.fixture
def golden():
    """Reads a file of golden vectors; skips the test where there are none."""
    import numpy as np

    def read(name: str) -> dict:
        if not (GOLDEN / name).exists():
            pytest.skip(f"no {name} in ../shared/data/oswm_golden")
        with np.load(GOLDEN / name, allow_pickle=False) as file:
            return {key: file[key] for key in file}

    return read

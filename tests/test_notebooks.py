"""The notebooks run from top to bottom, with a tiny budget; they have outputs.

A code cell's metadata may hold `"test": {"NUM_AGENTS": "4"}`: assignments that are
shrunk here, so that no cell has a switch for tests. Cells run in this process, by
IPython, which shares compiled programs among them; `make notebooks` takes a kernel.
"""

import re
import types
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

ROOT = Path(__file__).parent.parent
# The guides hold the same calls, smaller; `make notebooks` runs all of them whole.
SLOW = {
    "synthetic_acrobot",
    "synthetic_cartpole",
    "one_shot_world_model",
    "finetuning_digits",
}
PATHS = sorted((ROOT / "examples").glob("*.ipynb"))
NOTEBOOKS = [
    pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW), id=path.stem)
    for path in PATHS
]


def shrunk(source: str, smaller: dict[str, str]) -> str:
    """A cell with the right sides of some assignments replaced."""
    for name, value in smaller.items():
        source, number = re.subn(
            rf"(?m)^{re.escape(name)} = .*$", f"{name} = {value}", source
        )
        assert number == 1, f"{name}: expected one assignment, found {number}"
    return source


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebook_runs(path, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell(user_module=types.ModuleType(path.stem))
    shell.colors = "nocolor"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            source = shrunk(cell.source, cell.metadata.get("test", {}))
            shell.run_cell(source, store_history=False).raise_error()
            plt.close("all")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_outputs_and_tells_what_it_shows(path):
    notebook = nbformat.read(path, as_version=4)
    first, last = notebook.cells[0], notebook.cells[-1]
    assert "What you will see" in first.source and "What to try next" in last.source
    assert "JAXRL_SE" not in path.read_text()
    outputs = [x for cell in notebook.cells for x in cell.get("outputs", ())]
    if not outputs:
        pytest.skip(f"{path.name} is not stored with outputs yet: make notebooks")
    assert not any(x.output_type == "error" for x in outputs)
    assert any("image/png" in x.get("data", {}) for x in outputs), "make notebooks"
    assert path.stat().st_size < 600_000

"""The notebooks run from top to bottom, with a tiny budget."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
SLOW = {"synthetic_acrobot", "finetuning_digits"}
NOTEBOOKS = [
    pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW), id=path.stem)
    for path in sorted((ROOT / "examples").glob("*.ipynb"))
]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebook_runs(path, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXRL_SE_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{path.parent}")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear the outputs"
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()

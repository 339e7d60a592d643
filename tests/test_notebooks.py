"""The notebooks run from top to bottom, with a tiny budget; they have outputs.

A code cell's metadata may hold `"test": {"NUM_AGENTS": "4"}`: assignments that are
shrunk here, so that no cell has a switch for tests. Cells run in this process, by
IPython, which shares compiled programs among them; `make notebooks` takes a kernel.
"""

import ast
import importlib
import inspect
import re
import types
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from test_guides import BLOCK, PAGES, SLOW

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "examples").glob("*.ipynb"))
OURS = {"envs", "finetune", "hardviews", "jaxrl_se", "oswm"}


def shrunk(source: str, smaller: dict[str, str]) -> str:
    """A cell with the right sides of some assignments replaced."""
    for name, value in smaller.items():
        source, number = re.subn(
            rf"(?m)^{re.escape(name)} = .*$", f"{name} = {value}", source
        )
        assert number == 1, f"{name}: expected one assignment, found {number}"
    return source


@pytest.mark.slow  # the guides hold the same calls, smaller; the next test their names
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
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


def resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """What `package.name.name` stands for, None if it is nothing of ours."""
    if isinstance(node, ast.Attribute):
        owner = resolved(node.value, names)
        return None if owner is None else getattr(owner, node.attr)
    return names.get(node.id) if isinstance(node, ast.Name) else None


def check_names(source: str, names: dict[str, Any]) -> int:
    """How many calls of ours there are, each of names and keywords that exist."""
    number, tree = 0, ast.parse(TransformerManager().transform_cell(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [x for x in node.names if x.name in OURS]
            names |= {
                x.asname or x.name: importlib.import_module(x.name) for x in found
            }
        elif isinstance(node, ast.ImportFrom):
            path = node.module or ""
            if path.split(".")[0] in OURS:
                module = importlib.import_module(path)
                found = node.names
                names |= {x.asname or x.name: getattr(module, x.name) for x in found}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            resolved(node, names)
        elif isinstance(node, ast.Call):
            called = resolved(node.func, names)
            if called is not None:
                given = {x.arg: x.value for x in node.keywords if x.arg}
                inspect.signature(called).bind_partial(**given)
                number += 1
    return number


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_calls_of_a_notebook_have_names_that_exist(path):
    names, number = {}, 0
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            source = shrunk(cell.source, cell.metadata.get("test", {}))
            number += check_names(source, names)
    assert number > 2
    for wrong, error in (
        ("EvolutionConfig(popsize=1)", TypeError),
        ("trian()", AttributeError),
    ):
        with pytest.raises(error):
            check_names(f"import jaxrl_se\njaxrl_se.{wrong}", {})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_calls_of_a_guide_have_names_that_exist(path):
    """Also of those that are too slow to run every time."""
    names, number = {}, 0
    for _, code in BLOCK.findall(path.read_text()):
        number += check_names(code, names)
    assert number > 2 or path.stem not in SLOW


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

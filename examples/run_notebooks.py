"""Runs the notebooks of this folder and stores them with their outputs.

    make notebooks                               # all of them
    python examples/run_notebooks.py synthetic_cartpole

Pictures are kept small, and what differs from machine to machine is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
_PATHS = (str(FOLDER.parent), str(FOLDER), os.environ.get("PYTHONPATH", ""))


def run(path: Path) -> None:
    """Runs one notebook in a folder of its own and writes it back."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in _PATHS if p)
        NotebookClient(
            notebook, timeout=1800, resources={"metadata": {"path": folder}}
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if "outputs" in cell:  # warnings and progress bars
            cell.outputs = [x for x in cell.outputs if x.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB")


def main() -> None:
    """Runs those that are named, or all."""
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        run(FOLDER / f"{Path(name).stem}.ipynb")


if __name__ == "__main__":
    main()

"""A user's own folder called `envs` or `benchmarks` is named, not found by accident."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import envs
from jaxrl_runs.placement import hidden_by

ROOT = Path(envs.__file__).parent.parent


def run(tmp_path, code):
    """Runs code in a folder of the user's own, which Python looks into first."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("file", "package"), [("envs/__init__.py", "jaxrl_se"), ("envs.py", "oswm")]
)
def test_a_hidden_package_is_an_error_that_names_both(tmp_path, file, package):
    mine = tmp_path / file
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("")
    done = run(tmp_path, f"import {package}")
    assert done.returncode == 1
    named = mine.parent if mine.name == "__init__.py" else mine
    assert f"ImportError: {named} hides our package 'envs'" in done.stderr
    assert f"PYTHONPATH={ROOT}" in done.stderr


def test_hidden_commands_are_a_warning(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("")
    done = run(tmp_path, "import jaxrl_runs.placement")
    assert done.returncode == 0
    assert f"{tmp_path / 'benchmarks'} hides our package 'benchmarks'" in done.stderr


def test_ours_is_not_hidden(tmp_path):
    assert hidden_by("envs") is None
    assert hidden_by("envs", tmp_path) is None  # nothing of ours is there
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_text("")
    assert hidden_by("json", tmp_path).name == "json"  # the standard library's wins

"""Imports go one way: a package imports only from the floors below its own."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground up; packages of one floor do not import each other, but for `envs`,
# which keeps what it stores by `jaxrl_runs`.
MAY_IMPORT = {
    "jaxrl_runs": set(),
    "envs": {"jaxrl_runs"},
    "oswm": {"jaxrl_runs", "envs"},
    "finetune": {"jaxrl_runs", "envs"},
    "hardviews": {"jaxrl_runs"},
    "jaxrl_se": {"jaxrl_runs", "envs", "oswm", "finetune"},
    "benchmarks": {"jaxrl_runs", "envs", "oswm", "finetune", "hardviews", "jaxrl_se"},
}


def imported(source: str) -> set[str]:
    """Our packages that a file imports, at its top or anywhere inside."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names & MAY_IMPORT.keys()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_down(package):
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in imported(path.read_text()) - MAY_IMPORT[package] - {package}
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_nothing_of_ours_imports_tests_or_examples():
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            names = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ImportFrom | ast.Import)
                for name in (
                    [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else [alias.name for alias in node.names]
                )
            }
            assert not names & {"tests", "examples"}, path


def test_an_import_inside_a_function_is_seen():
    assert imported("def f():\n    from jaxrl_se.zoo import load") == {"jaxrl_se"}
    assert imported("import numpy\nfrom . import envs") == set()


def test_gymnaxs_pictures_find_what_draws_them():
    """`envs` imports gymnax without seaborn and pyplot, which load when asked for."""
    importlib.import_module("envs")  # first
    pong = importlib.import_module("gymnax.environments.misc.pong")

    assert len(pong.sns.color_palette("cubehelix", 3)) == 3
    assert callable(pong.plt.subplots)

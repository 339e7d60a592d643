"""The examples in the docstrings run."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module", ["action_repeat", "registry", "gymnasium_env", "legacy", "collection"]
)
def test_examples_run(module):
    results = doctest.testmod(importlib.import_module(f"envs.{module}"))
    assert results.attempted > 0 and results.failed == 0

"""Commands are found by name, and XLA is set up before anything imports JAX."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import benchmarks
from benchmarks.__main__ import commands

FOLDER = Path(benchmarks.__file__).parent
PRINT = """
import json, os, sys
from benchmarks import launch
assert "jax" not in sys.modules and "gymnax" not in sys.modules
launch.configure(launch.{profile}, quick={quick})
names = ("JAX_NUM_CPU_DEVICES", "NPROC", "XLA_FLAGS")
print(json.dumps({{name: os.environ.get(name) for name in names}}))
"""


def configured(profile: str, quick: bool = False, **before: str) -> dict:
    """What a profile makes of the environment of a fresh process."""
    unset = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "NPROC")
    env = {k: v for k, v in os.environ.items() if k not in unset} | before
    code = PRINT.format(profile=profile, quick=quick)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_profiles_differ_in_devices_and_flags():
    small = configured("SMALL_PROGRAMS")
    assert int(small["JAX_NUM_CPU_DEVICES"]) >= 1 and small["NPROC"] is None
    assert "--xla_backend_optimization_level=1" in small["XLA_FLAGS"].split()
    one = configured("ONE_PROGRAM")
    assert (one["JAX_NUM_CPU_DEVICES"], one["NPROC"]) == ("1", "1")
    assert one["XLA_FLAGS"] == small["XLA_FLAGS"]
    long = configured("LONG_RUNS")["XLA_FLAGS"]
    assert "vector_width=512" in long and "optimization_level" not in long


def test_what_the_environment_sets_wins():
    flag = "--xla_backend_optimization_level=0"
    found = configured("SMALL_PROGRAMS", XLA_FLAGS=flag, JAX_NUM_CPU_DEVICES="7")
    assert found["JAX_NUM_CPU_DEVICES"] == "7"
    assert found["XLA_FLAGS"].count("optimization_level") == 1
    assert flag in found["XLA_FLAGS"]


def test_every_entry_is_listed_and_launches_a_module_with_a_main():
    listed = {name for lines in commands().values() for name, _ in lines}
    entries = {
        f"benchmarks.{path.parent.name}" for path in FOLDER.glob("*/__main__.py")
    }
    helpers = ("__init__", "__main__", "launch")
    entries |= {
        f"benchmarks.{path.stem}"
        for path in FOLDER.glob("*.py")
        if path.stem not in helpers
    }
    assert listed == entries
    for lines in commands().values():
        for name, summary in lines:
            assert summary.endswith((".", "?")), (name, summary)
    for entry in [*FOLDER.glob("*.py"), *FOLDER.glob("*/__main__.py")]:
        text = entry.read_text()
        if 'launch("' in text:
            module = text.split('launch("')[1].split('"')[0]
            source = FOLDER.parent / Path(*module.split(".")).with_suffix(".py")
            body = ast.parse(source.read_text()).body
            assert "main" in {getattr(node, "name", None) for node in body}, module

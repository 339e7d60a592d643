"""An evolution over two processes: the same bits, a loss, resuming."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import distributed_program
import pytest

PROGRAM = Path(__file__).with_name("distributed_program.py")


def run(num_processes, out, *arguments):
    """What each process of a job printed, and its exit status."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, PROGRAM, address, str(num_processes), str(i), out),
                *map(str, arguments),
            ],
            env=os.environ | {"PYTHONPATH": str(PROGRAM.parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(num_processes)
    ]
    try:
        outputs = [process.communicate(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return outputs, [process.returncode for process in processes]


def reports(outputs, codes):
    assert not any(codes), outputs
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What the job comes to in this process, which has two devices."""
    return distributed_program.job(tmp_path_factory.mktemp("alone"))


def same_as(alone, found):
    """Both processes report the bits of one, and played a part each."""
    for report in found:
        own = report.pop("own_outside_steps")
        assert 0 < own < report["outside_steps"]
    expected = {k: v for k, v in alone.items() if k != "own_outside_steps"}
    # As text: a generation without a validation has not-a-number there.
    first, second, text = map(json.dumps, [*found, expected])
    assert first == second == text


def test_two_processes_have_the_bits_of_one(alone, tmp_path):
    same_as(alone, reports(*run(2, tmp_path)))
    assert alone["own_outside_steps"] == alone["outside_steps"]
    assert any(row["validation_mean"] > 0 for row in alone["rows"])
    assert (tmp_path / "checkpoints" / "4").exists()


@pytest.mark.slow  # four processes; the test above, and `test_evolution` resumes
def test_two_processes_lose_one_and_resume_to_the_bits_of_one(alone, tmp_path):
    outputs, codes = run(2, tmp_path, 2)  # the second is lost after two generations
    assert codes[1] == 7 and codes[0] not in (0, 7), outputs
    assert "another process of the job" in outputs[0][1]
    steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*"))
    assert steps and steps[-1] <= 3
    same_as(alone, reports(*run(2, tmp_path, "resume")))

"""An evolution over two processes: the same bits, a loss, resuming."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import distributed_program

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


def test_two_processes_lose_one_and_resume_to_the_bits_of_one(tmp_path):
    alone = distributed_program.job(tmp_path / "alone")
    tmp_path = tmp_path / "two"
    outputs, codes = run(2, tmp_path, 2)  # the second is lost after two generations
    assert codes[1] == 7 and codes[0] not in (0, 7), outputs
    assert "another process of the job" in outputs[0][1]
    steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*"))
    assert steps and steps[-1] <= 3
    found = reports(*run(2, tmp_path, "resume"))
    for report in found:
        own = report.pop("own_outside_steps")
        assert 0 < own < report["outside_steps"]
    assert alone.pop("own_outside_steps") == alone["outside_steps"]
    # As text: a generation without a validation has not-a-number there.
    first, second, text = map(json.dumps, [*found, alone])
    assert first == second == text
    assert any(row["validation_mean"] > 0 for row in alone["rows"])

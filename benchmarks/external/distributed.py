"""Does an evolution over several processes give the same bits, and how fast is it?

The same evolution three times: in one process with one device, in one process with as
many devices as there are to be processes, and in that many processes of one device
each, which `jax.distributed` joins over loopback.

python -m benchmarks.distributed --processes 2
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import tyro

from jaxrl_runs.run_folder import RunFolder, RunFolderError, next_run_folder


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      processes: How many.
      generations: Of each evolution.
      population: Candidates, a multiple of `processes`.
      seed: Seed of all three.
      out: Folder of the run; without it, the next numbered one under runs/.
    """

    processes: int = 2
    generations: int = 10
    population: int = 32
    seed: int = 0
    out: Path | None = None

    def __post_init__(self):
        if self.processes < 2:
            raise ValueError(f"--processes must be at least 2, got {self.processes}")
        if self.population % self.processes:
            raise ValueError(
                f"--population must be a multiple of {self.processes}, got "
                f"{self.population}"
            )
        if self.generations < 1:
            raise ValueError(
                f"--generations must be at least 1, got {self.generations}"
            )


def free_port() -> int:
    """A port on loopback that nobody listens to at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_job(options: Options, processes: int, devices: int, out: Path) -> list[dict]:
    """Runs the evolution in so many processes; what each reports.

    Args:
      options: Of the benchmark.
      processes: How many.
      devices: Of each process.
      out: Folder of the evolution, which the first process writes.

    Raises:
      RunFolderError: A process failed; the message has the end of its output.
    """
    out.mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    # A thread for each device, so that processes and devices have as many.
    setting = {"JAX_NUM_CPU_DEVICES": str(devices), "NPROC": str(devices)}
    command = [sys.executable, "-m", "benchmarks.external.distributed_worker"]
    arguments = [options.generations, options.population, options.seed]
    logs = [out / f"process-{i}.txt" for i in range(processes)]
    running = []
    for index, log in enumerate(logs):
        with log.open("w") as file:
            place = [address, processes, index, out / "run", *arguments]
            running.append(
                subprocess.Popen(
                    [*command, *map(str, place)],
                    env=os.environ | setting,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )
    codes = [process.wait() for process in running]
    failed = [log for code, log in zip(codes, logs, strict=True) if code]
    if failed:
        end = failed[0].read_text()[-2000:]
        raise RunFolderError(f"{failed[0]}: a process failed: {end}")
    return [json.loads(log.read_text().splitlines()[-1]) for log in logs]


def summary_of(options: Options, rows: dict[str, dict]) -> dict[str, Any]:
    """What is kept; `rows` are one process alone, one with N devices, N processes."""
    alone, together, apart = rows.values()
    size, generations = options.population, options.generations
    # What the processes share among them, and what each does or waits for alike.
    shared = alone["cpu_seconds"] / generations
    alike = apart["strategy_seconds"] + apart["exchange_seconds"]
    return {
        "processes": options.processes,
        "generations": generations,
        "population": size,
        "jobs": rows,
        "params_sha256": [together["params_sha256"], apart["params_sha256"]],
        "same_bits": together["params_sha256"] == apart["params_sha256"]
        and apart["all_processes_agree"],
        "speedup": alone["seconds"] / apart["seconds"],
        "seconds_per_generation": apart["seconds"] / generations,
        # A number for each candidate; each process draws all of them by itself.
        "bytes_per_generation": 4 * size,
        "shared_seconds_per_generation": shared,
        "alike_seconds_per_generation": alike,
        # Each needs a candidate at least.
        "processes_at_half_speed": min(shared / alike, size),
    }


def main() -> None:
    """Parses the command line, runs the three and compares."""
    options = tyro.cli(Options, description=__doc__)
    out = options.out or next_run_folder("runs/distributed")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    number = options.processes
    with RunFolder(out, identity) as folder:
        jobs = {
            "one process, one device": (1, 1),
            f"one process, {number} devices": (1, number),
            f"{number} processes, one device each": (number, 1),
        }
        rows: dict[str, dict[str, Any]] = {}
        for name, (processes, devices) in jobs.items():
            found = run_job(options, processes, devices, out / f"{processes}x{devices}")
            rows[name] = {
                "params_sha256": found[0]["params_sha256"],
                "all_processes_agree": len({x["params_sha256"] for x in found}) == 1,
                "seconds": max(x["seconds"] for x in found),
                "cpu_seconds": sum(x["cpu_seconds"] for x in found),
                "compile_seconds": max(x["compile_seconds"] for x in found),
                "exchange_seconds": max(x["exchange_seconds"] for x in found),
                "strategy_seconds": min(x["strategy_seconds"] for x in found),
            }
            row = rows[name]
            print(
                f"{name:<32}{row['seconds']:8.1f} s {row['cpu_seconds']:8.1f} CPU-s  "
                f"{row['params_sha256'][:16]}",
                flush=True,
            )
        summary = summary_of(options, rows)
        folder.write_json("summary.json", summary)
    print(f"same bits: {summary['same_bits']}, speed-up {summary['speedup']:.2f}")
    print(
        f"{summary['bytes_per_generation']} bytes a generation; half of the time is "
        f"shared work up to {summary['processes_at_half_speed']:.0f} processes"
    )
    print(f"results in {out}")

"""Starts `benchmarks.faults.benchmark`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.faults.benchmark", ONE_PROGRAM)

"""Starts `benchmarks.picture_tasks.benchmark`."""

from benchmarks.launch import LONG_RUNS, launch

if __name__ == "__main__":
    launch("benchmarks.picture_tasks.benchmark", LONG_RUNS)

"""Starts `benchmarks.transfer.benchmark`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.transfer.benchmark", SMALL_PROGRAMS)

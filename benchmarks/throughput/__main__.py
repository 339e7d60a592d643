"""Starts `benchmarks.throughput.benchmark`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.throughput.benchmark", SMALL_PROGRAMS)

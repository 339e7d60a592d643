"""Starts `benchmarks.throughput.agents`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.throughput.agents", SMALL_PROGRAMS)

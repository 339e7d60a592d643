"""Starts `benchmarks.logs.total_cost`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.logs.total_cost", SMALL_PROGRAMS)

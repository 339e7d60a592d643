"""Starts `benchmarks.logs.rounds`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.logs.rounds", SMALL_PROGRAMS)

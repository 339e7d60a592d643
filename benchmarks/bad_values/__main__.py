"""Starts `benchmarks.bad_values.benchmark`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.bad_values.benchmark", SMALL_PROGRAMS)

"""Starts `benchmarks.pictures.hard_views`."""

import sys

from benchmarks.launch import LONG_RUNS, SMALL_PROGRAMS, launch

if __name__ == "__main__":
    # A quick run mostly compiles.
    profile = SMALL_PROGRAMS if "--quick" in sys.argv else LONG_RUNS
    launch("benchmarks.pictures.hard_views", profile)

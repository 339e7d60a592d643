"""Starts `benchmarks.pictures.hard_views`."""

from benchmarks.launch import LONG_RUNS, launch

if __name__ == "__main__":
    launch("benchmarks.pictures.hard_views", LONG_RUNS)

"""Starts `benchmarks.pictures.group_augment`."""

from benchmarks.launch import LONG_RUNS, launch

if __name__ == "__main__":
    launch("benchmarks.pictures.group_augment", LONG_RUNS)

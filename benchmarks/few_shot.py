"""Starts `benchmarks.pictures.few_shot`."""

from benchmarks.launch import LONG_RUNS, launch

if __name__ == "__main__":
    launch("benchmarks.pictures.few_shot", LONG_RUNS)

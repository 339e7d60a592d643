"""Starts `benchmarks.logs.ablation`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.logs.ablation", SMALL_PROGRAMS)

"""Starts `benchmarks.oswm.ablation`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.oswm.ablation", SMALL_PROGRAMS)

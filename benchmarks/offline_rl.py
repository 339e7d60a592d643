"""Starts `benchmarks.logs.offline_rl`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.logs.offline_rl", SMALL_PROGRAMS)

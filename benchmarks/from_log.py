"""Starts `benchmarks.logs.from_log`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.logs.from_log", SMALL_PROGRAMS)

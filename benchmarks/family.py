"""Starts `benchmarks.any_task.family`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.any_task.family", SMALL_PROGRAMS)

"""Starts `benchmarks.any_task.any_agent`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.any_task.any_agent", SMALL_PROGRAMS)

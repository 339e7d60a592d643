"""Starts `benchmarks.any_task.shaped_tasks`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.any_task.shaped_tasks", SMALL_PROGRAMS)

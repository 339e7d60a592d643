"""Starts `benchmarks.external.gymnasium_task`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.external.gymnasium_task", ONE_PROGRAM)

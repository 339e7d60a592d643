"""Starts `benchmarks.pictures.hard_views`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.pictures.hard_views", ONE_PROGRAM)

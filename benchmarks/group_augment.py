"""Starts `benchmarks.pictures.group_augment`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.pictures.group_augment", ONE_PROGRAM)

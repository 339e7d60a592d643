"""Starts `benchmarks.external.distributed`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.external.distributed", ONE_PROGRAM)

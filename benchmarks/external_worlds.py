"""Starts `benchmarks.external.worlds`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.external.worlds", ONE_PROGRAM)

"""Starts `benchmarks.oswm.benchmark`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.oswm.benchmark", ONE_PROGRAM)

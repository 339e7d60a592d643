"""Starts `benchmarks.external.baselines`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.external.baselines", ONE_PROGRAM)

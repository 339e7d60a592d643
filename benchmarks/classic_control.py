"""Starts `benchmarks.synthetic.classic_control`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.synthetic.classic_control", SMALL_PROGRAMS)

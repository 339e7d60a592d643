"""Starts `benchmarks.synthetic.acrobot`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.synthetic.acrobot", SMALL_PROGRAMS)

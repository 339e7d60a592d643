"""Starts `benchmarks.synthetic.pendulum`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.synthetic.pendulum", SMALL_PROGRAMS)

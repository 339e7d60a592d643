"""Starts `benchmarks.synthetic.cartpole`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.synthetic.cartpole", SMALL_PROGRAMS)

"""Starts `benchmarks.synthetic.mountain_car`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.synthetic.mountain_car", SMALL_PROGRAMS)

"""Starts `benchmarks.synthetic.mountain_car_continuous`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.synthetic.mountain_car_continuous", SMALL_PROGRAMS)

"""Starts `benchmarks.synthetic.clients`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.synthetic.clients", SMALL_PROGRAMS)

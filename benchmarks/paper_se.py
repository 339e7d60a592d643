"""Starts `benchmarks.synthetic.paper_se`."""

from benchmarks.launch import LONG_RUNS, launch

if __name__ == "__main__":
    launch("benchmarks.synthetic.paper_se", LONG_RUNS)

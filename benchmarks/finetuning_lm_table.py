"""Starts `benchmarks.finetuning_lm.table`."""

from benchmarks.launch import LONG_RUNS, launch

if __name__ == "__main__":
    launch("benchmarks.finetuning_lm.table", LONG_RUNS)

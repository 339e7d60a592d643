"""Starts `benchmarks.finetuning_lm.benchmark`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.finetuning_lm.benchmark", SMALL_PROGRAMS)

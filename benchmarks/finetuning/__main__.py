"""Starts `benchmarks.finetuning.benchmark`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.finetuning.benchmark", SMALL_PROGRAMS)

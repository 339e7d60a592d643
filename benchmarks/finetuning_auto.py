"""Starts `benchmarks.finetuning.auto`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.finetuning.auto", SMALL_PROGRAMS)

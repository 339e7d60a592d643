"""Starts `benchmarks.finetuning.cold`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.finetuning.cold", SMALL_PROGRAMS)

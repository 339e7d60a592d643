"""Starts `benchmarks.finetuning.peers`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.finetuning.peers", SMALL_PROGRAMS)

"""Starts `benchmarks.reward_networks.benchmark`."""

from benchmarks.launch import SMALL_PROGRAMS, launch

if __name__ == "__main__":
    launch("benchmarks.reward_networks.benchmark", SMALL_PROGRAMS)

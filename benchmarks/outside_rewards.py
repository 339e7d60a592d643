"""Starts `benchmarks.external.reward_networks`."""

from benchmarks.launch import ONE_PROGRAM, launch

if __name__ == "__main__":
    launch("benchmarks.external.reward_networks", ONE_PROGRAM)

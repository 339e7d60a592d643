"""What a reader runs: `python -m benchmarks.NAME`."""

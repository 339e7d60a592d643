"""What several subjects use: devices and exit codes, cells of a run, curves, tests."""

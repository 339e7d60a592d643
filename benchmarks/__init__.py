"""What a reader runs: `python -m benchmarks` lists the commands.

A subject is a package: its settings, measurements, pictures and report stand beside
each other. `launch` starts a command, `shared` holds what several subjects use.
"""

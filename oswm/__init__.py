"""One-Shot World Model: a thousand transitions in, an environment to train in out."""

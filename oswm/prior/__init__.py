"""Synthetic tasks to train a world model on; see ``paper.py`` and ``default.py``."""

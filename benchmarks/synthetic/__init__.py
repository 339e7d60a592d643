"""Synthetic environments: agents trained only in them act on the real task."""

"""Reward networks: agents learn the real task in fewer steps."""

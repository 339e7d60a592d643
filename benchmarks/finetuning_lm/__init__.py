"""Finetuning a small language model: a table of runs, and what learns from it."""

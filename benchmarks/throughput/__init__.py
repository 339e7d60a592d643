"""Throughput: CPU-seconds beside other implementations."""

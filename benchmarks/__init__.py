"""Measure the figures in the README: `python -m benchmarks`, or `make bench`."""

"""The numbers that the README promises, measured: `python -m benchmarks`, or `make bench`."""

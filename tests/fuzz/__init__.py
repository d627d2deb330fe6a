"""Input that nobody would send, at what reads input: `python -m tests.fuzz --inputs 100000`."""

"""Tests of `worker.core`: parsing, signatures and other rules of VOD's data."""

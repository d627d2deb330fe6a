"""Tests with real databases and brokers."""

"""Tests with real processes, through HTTP, SQL and the command line."""

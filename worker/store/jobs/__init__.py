"""Rows of long runs: jobs with their checkpoints, when scheduled ones are due, and what a run has listed or suspects to be gone."""

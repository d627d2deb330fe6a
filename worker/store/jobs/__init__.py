"""Long runs: job rows with their checkpoints, the inventory of a library, and which assets a run has seen."""

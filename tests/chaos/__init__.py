"""Random faults under load, and then the question whether the promise was kept."""

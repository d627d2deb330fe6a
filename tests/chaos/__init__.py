"""Random faults under load, then a check that no accepted notification was lost."""

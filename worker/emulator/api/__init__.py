"""The emulated VOD API: signatures, rate limits, faults, operations and search."""

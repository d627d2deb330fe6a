"""The emulated message queue (SMQ)."""

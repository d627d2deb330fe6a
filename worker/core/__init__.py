"""What vodsync knows about VOD, without any input or output."""

"""Types and rules of VOD's data, without input or output."""

"""The emulated media library: assets invented from a seed, their life cycle and their events."""

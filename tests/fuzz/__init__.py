"""Properties that hold for any input from outside: `make fuzz` tries many inputs, an ordinary test run a few."""

"""Media assets as last seen in VOD: compare, write, view, filter, and rederive columns from stored answers."""

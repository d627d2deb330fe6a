"""Mutation tests: change one place of a module at a time and find out whether its tests notice."""

"""Runs of the package's own runner, bound from the macros of the other files."""

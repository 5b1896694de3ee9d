"""Experiments on GLUE."""

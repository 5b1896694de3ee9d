"""Runs of T5X."""

"""Experiments on summarisation."""

"""Experiments on summarisation and natural language inference together."""

"""Experiments on natural language inference."""

"""Comparison of methods: methods × seeds → runs, a table with intervals, curves."""

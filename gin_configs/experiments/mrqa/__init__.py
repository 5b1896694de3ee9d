"""Experiments on MRQA."""

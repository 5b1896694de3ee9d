"""Checkpoints in, checkpoints of other libraries out, and back."""

"""What adapts the encoder: one source a file."""

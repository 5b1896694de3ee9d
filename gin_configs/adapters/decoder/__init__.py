"""What adapts the decoder: one source a file."""

"""One file a way of decoding."""

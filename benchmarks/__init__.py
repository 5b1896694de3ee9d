"""Speed and memory of the package; nothing here is a test."""

"""One file an optimizer, with its schedule."""

"""One folder a runner."""

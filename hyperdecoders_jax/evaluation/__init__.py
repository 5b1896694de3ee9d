"""A predict function in, metrics and predictions out."""

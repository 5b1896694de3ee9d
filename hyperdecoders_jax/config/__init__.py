"""A run's configuration: gin files and flags in, checked values out."""

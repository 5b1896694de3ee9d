"""One file a size: macros that hold numbers, nothing else."""

"""The extra `[train]` and T5X: whether they are installed, and errors that say how to."""

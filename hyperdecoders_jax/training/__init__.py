"""A model and batches in, trained parameters and checkpoints out."""

"""Data: vocabularies, mixtures, readers, and the batches of training and evaluation."""

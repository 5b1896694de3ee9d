"""Trained models at work: parameters on devices, texts in, texts out."""

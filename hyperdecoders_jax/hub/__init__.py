"""An exported model's classes for Hugging Face's transformers, and the files beside it."""

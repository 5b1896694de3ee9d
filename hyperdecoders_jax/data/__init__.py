"""Text in, batches out: vocabularies, feature conversion, the resumable pipeline."""

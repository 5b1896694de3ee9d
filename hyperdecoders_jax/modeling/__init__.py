"""The model in flax.linen: batch in, logits out; no files, no TensorFlow, no gin."""

"""Greedy decoding, sampling and beam search over any next-token function; no model is known."""

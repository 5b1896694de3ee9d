"""Greedy decoding, sampling and beam search over any next-token function.

Nothing here knows a model. A `decoded.NextToken` reads the newest token of every hypothesis and a
cache, and returns logits; what the hypotheses of an example share (its encoding, its adapters)
stays in that function's closure, where no search gathers or copies it.
"""

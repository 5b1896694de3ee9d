"""A next-token function in, tokens with their scores out: greedy, sampled, or by beam search.

Nothing here knows a model. A `decoded.NextToken` reads the newest token of every hypothesis and a
cache, and gives logits; whatever all hypotheses of an example share (its encoding, its adapters)
stays in that function's closure, where no search gathers or copies it.
"""

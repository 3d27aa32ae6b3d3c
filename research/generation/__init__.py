"""Sampling, beam search, speculative decoding and constraints: what turns a model's logits into outputs."""

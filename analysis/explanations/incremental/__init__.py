"""Logits after each of many replacements of frames, computed from running sums instead of a pass each."""

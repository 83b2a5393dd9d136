"""Explanations by relevance propagation and attention flow."""

"""Explanations by gradients and by replacing frames."""

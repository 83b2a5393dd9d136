"""Sensitivity: norms of frame Jacobians, and how local they are (equation 10)."""

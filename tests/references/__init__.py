"""Slow definitions that the fast code is held against."""

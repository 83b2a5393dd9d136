"""Intervals, permutation tests, comparisons of models, corrections for many tests."""

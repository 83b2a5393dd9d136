"""Structured fast paths of attention; each has a slow twin in the tests."""

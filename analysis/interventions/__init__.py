"""Interventions: what a model says without a head or a branch, and what that costs."""

"""Explanations of a class, frame by frame: one registry, their faithfulness, and scores against known evidence."""

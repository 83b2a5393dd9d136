"""Trained checkpoints that ship with the package, each with a card, and the command that trained them."""

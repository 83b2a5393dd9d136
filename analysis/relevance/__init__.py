"""Relevance: how a class's score goes back to the frames through attention, branch by branch."""

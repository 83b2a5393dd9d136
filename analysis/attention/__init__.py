"""Attention maps: patterns, vertical lines, profiles, gates, similarity of frames, and checks of the maps."""

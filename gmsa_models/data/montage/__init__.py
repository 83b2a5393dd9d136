"""Montages: labelled videos with exactly known segments, made from video-level vectors or class statistics."""

"""Checkpoints: safetensors that carry their config, class names and card."""

from gmsa_models.checkpoints.files import Description, available, describe, find, load, save
from gmsa_models.checkpoints.header import CheckpointError

__all__ = ["CheckpointError", "Description", "available", "describe", "find", "load", "save"]

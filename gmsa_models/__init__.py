"""What a model is, what it is fed, how it is trained, saved and loaded."""

from gmsa_models import metrics
from gmsa_models.checkpoints import available, describe, load, save
from gmsa_models.classifier import GMSAClassifier, ModelConfig
from gmsa_models.data import Batch, Clip, Segment, Vocabulary, read_clips, write_clips
from gmsa_models.trace import AttentionTrace, LayerTrace
from gmsa_models.variants import build

__all__ = [
    "AttentionTrace",
    "Batch",
    "Clip",
    "GMSAClassifier",
    "LayerTrace",
    "ModelConfig",
    "Segment",
    "Vocabulary",
    "available",
    "build",
    "describe",
    "load",
    "metrics",
    "read_clips",
    "save",
    "write_clips",
]

"""What a model is, what it is fed, how it is trained, saved and loaded.

What stands here is imported when it is asked for: parts that need no torch load without it.
"""

from typing import TYPE_CHECKING

from gmsa_models.lazy import lazy_names

if TYPE_CHECKING:
    from gmsa_models.checkpoints.files import available, describe, load, save
    from gmsa_models.classifier import GMSAClassifier
    from gmsa_models.config import ModelConfig
    from gmsa_models.data import Batch, Clip, Segment, Vocabulary, read_clips, write_clips
    from gmsa_models.errors import GMSAError
    from gmsa_models.evaluation import metrics
    from gmsa_models.trace import AttentionTrace, LayerTrace
    from gmsa_models.variants import build

__all__ = [
    "AttentionTrace",
    "Batch",
    "Clip",
    "GMSAClassifier",
    "GMSAError",
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

_MODULES = {
    "AttentionTrace": "gmsa_models.trace",
    "Batch": "gmsa_models.data",
    "Clip": "gmsa_models.data",
    "GMSAClassifier": "gmsa_models.classifier",
    "GMSAError": "gmsa_models.errors",
    "LayerTrace": "gmsa_models.trace",
    "ModelConfig": "gmsa_models.config",
    "Segment": "gmsa_models.data",
    "Vocabulary": "gmsa_models.data",
    "available": "gmsa_models.checkpoints.files",
    "build": "gmsa_models.variants",
    "describe": "gmsa_models.checkpoints.files",
    "load": "gmsa_models.checkpoints.files",
    "metrics": "gmsa_models.evaluation",
    "read_clips": "gmsa_models.data",
    "save": "gmsa_models.checkpoints.files",
    "write_clips": "gmsa_models.data",
}


__getattr__ = lazy_names(__name__, _MODULES)

"""Clips, where they come from, and the labels they carry.

What stands here is imported when it is asked for: parts that need no torch load without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmsa_models.data.clip import Batch, Clip, ClipError, Segment, dequantize, quantize
    from gmsa_models.data.sources import read_clips
    from gmsa_models.data.spaces import FeatureSpace
    from gmsa_models.data.tfrecord.errors import TFRecordError
    from gmsa_models.data.tfrecord.files import write_clips
    from gmsa_models.data.vocabulary import Vocabulary

__all__ = [
    "Batch",
    "Clip",
    "ClipError",
    "FeatureSpace",
    "Segment",
    "TFRecordError",
    "Vocabulary",
    "dequantize",
    "quantize",
    "read_clips",
    "write_clips",
]

_MODULES = {
    "Batch": "gmsa_models.data.clip",
    "Clip": "gmsa_models.data.clip",
    "ClipError": "gmsa_models.data.clip",
    "FeatureSpace": "gmsa_models.data.spaces",
    "Segment": "gmsa_models.data.clip",
    "TFRecordError": "gmsa_models.data.tfrecord.errors",
    "Vocabulary": "gmsa_models.data.vocabulary",
    "dequantize": "gmsa_models.data.clip",
    "quantize": "gmsa_models.data.clip",
    "read_clips": "gmsa_models.data.sources",
    "write_clips": "gmsa_models.data.tfrecord.files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

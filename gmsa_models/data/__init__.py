"""Clips, where they come from, and the labels they carry.

What stands here is imported when it is asked for: parts that need no torch load without it.
"""

from typing import TYPE_CHECKING

from gmsa_models.lazy import lazy_names

if TYPE_CHECKING:
    from gmsa_models.data.batch import Batch
    from gmsa_models.data.clip import Clip, ClipError, Segment, dequantize, quantize
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
    "Batch": "gmsa_models.data.batch",
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


__getattr__ = lazy_names(__name__, _MODULES)

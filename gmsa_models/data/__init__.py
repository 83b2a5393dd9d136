"""Clips, where they come from, and the labels they carry."""

from gmsa_models.data.clip import Batch, Clip, ClipError, Segment, dequantize, quantize
from gmsa_models.data.sources import read_clips
from gmsa_models.data.tfrecord import TFRecordError, write_clips
from gmsa_models.data.vocabulary import Vocabulary

__all__ = [
    "Batch",
    "Clip",
    "ClipError",
    "Segment",
    "TFRecordError",
    "Vocabulary",
    "dequantize",
    "quantize",
    "read_clips",
    "write_clips",
]

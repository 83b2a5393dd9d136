"""Pure functions on what a model saw: tensors in, tensors or tables out. No files, no plotting."""

from analysis.combine import combine_models
from analysis.profiles import Unevenness, attention_profile, head_profiles, unevenness
from analysis.record import inspect_clip, inspect_clips
from analysis.similarity import frame_centred_cosine_similarity, frame_cosine_similarity, linear_cka
from analysis.view import RecordError

__all__ = [
    "RecordError",
    "Unevenness",
    "attention_profile",
    "combine_models",
    "frame_centred_cosine_similarity",
    "frame_cosine_similarity",
    "head_profiles",
    "inspect_clip",
    "inspect_clips",
    "linear_cka",
    "unevenness",
]

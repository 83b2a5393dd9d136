"""Pure functions on what a model saw: tensors in, tensors or tables out. No files, no plotting."""

from analysis.certificates import Certificate, certificate_table, certify
from analysis.combine import combine_models
from analysis.gates import branch_contributions, contribution_norms, local_share
from analysis.pattern_table import pattern_table
from analysis.profiles import Unevenness, attention_profile, head_profiles, unevenness
from analysis.record import inspect_clip, inspect_clips
from analysis.representations import cka_table, traced_similarity
from analysis.similarity import frame_centred_cosine_similarity, frame_cosine_similarity, linear_cka
from analysis.view import RecordError

__all__ = [
    "Certificate",
    "RecordError",
    "Unevenness",
    "attention_profile",
    "branch_contributions",
    "certificate_table",
    "certify",
    "cka_table",
    "combine_models",
    "contribution_norms",
    "frame_centred_cosine_similarity",
    "frame_cosine_similarity",
    "head_profiles",
    "inspect_clip",
    "inspect_clips",
    "linear_cka",
    "local_share",
    "pattern_table",
    "traced_similarity",
    "unevenness",
]

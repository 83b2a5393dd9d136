"""Pure functions on what a model saw: tensors in, tensors or tables out. No files, no plotting."""

from analysis.ablation import Ablation, ContextMeans, all_ablations
from analysis.ablation_scores import ablate_clip, ablation_costs, ablation_scores, context_means
from analysis.certificates import Certificate, certificate_table, certify
from analysis.combine import combine_models
from analysis.comparisons import compare_scores, compare_values
from analysis.explanation import Explanation, ExplanationError
from analysis.explanation_scores import explanation_scores
from analysis.explanations import EXPLANATIONS, applicable, explain, explain_all
from analysis.faithfulness import Replacer
from analysis.gates import branch_contributions, contribution_norms, local_share
from analysis.multiplicity import adjust_p_values
from analysis.pattern_table import pattern_table
from analysis.profiles import Unevenness, attention_profile, head_profiles, unevenness
from analysis.record import inspect_clip, inspect_clips
from analysis.representations import cka_table, traced_similarity
from analysis.sanity import rank_correlation_with_shuffled
from analysis.similarity import frame_centred_cosine_similarity, frame_cosine_similarity, linear_cka
from analysis.taxonomy import head_taxonomy
from analysis.variables import DEFAULT_PARTS
from analysis.view import RecordError

__all__ = [
    "DEFAULT_PARTS",
    "EXPLANATIONS",
    "Ablation",
    "Certificate",
    "ContextMeans",
    "Explanation",
    "ExplanationError",
    "RecordError",
    "Replacer",
    "Unevenness",
    "ablate_clip",
    "ablation_costs",
    "ablation_scores",
    "adjust_p_values",
    "all_ablations",
    "applicable",
    "attention_profile",
    "branch_contributions",
    "certificate_table",
    "certify",
    "cka_table",
    "combine_models",
    "compare_scores",
    "compare_values",
    "context_means",
    "contribution_norms",
    "explain",
    "explain_all",
    "explanation_scores",
    "frame_centred_cosine_similarity",
    "frame_cosine_similarity",
    "head_profiles",
    "head_taxonomy",
    "inspect_clip",
    "inspect_clips",
    "linear_cka",
    "local_share",
    "pattern_table",
    "rank_correlation_with_shuffled",
    "traced_similarity",
    "unevenness",
]

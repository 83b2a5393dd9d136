"""Pure functions on what a model saw: tensors in, tensors or tables out. No plotting.

What stands here is imported when it is asked for: parts that need no torch load without it.
"""

from typing import TYPE_CHECKING

from gmsa_models.lazy import lazy_names

if TYPE_CHECKING:
    from analysis.attention.certificates import Certificate, certificate_table
    from analysis.attention.gates import branch_contributions, contribution_norms, local_share
    from analysis.attention.pattern_table import pattern_table
    from analysis.attention.profiles import Unevenness, attention_profile, head_profiles, unevenness
    from analysis.attention.representations import cka_table, traced_similarity
    from analysis.attention.similarity import frame_centred_cosine_similarity, frame_cosine_similarity, linear_cka
    from analysis.errors import RecordError
    from analysis.explanations.explanation import Explanation
    from analysis.explanations.faithfulness import Replacer
    from analysis.explanations.registry import EXPLANATIONS, applicable, explain, explain_all
    from analysis.explanations.sanity import rank_correlation_with_shuffled
    from analysis.explanations.scores import explanation_scores
    from analysis.inspect.clips import inspect_clip, inspect_clips
    from analysis.inspect.engine import EditEngine
    from analysis.inspect.maps import certify, head_taxonomy
    from analysis.inspect.module import inspect_module
    from analysis.interventions.ablation import Ablation, ContextMeans, all_ablations
    from analysis.interventions.ablation_scores import ablate_clip, ablation_costs, ablation_scores, context_means
    from analysis.interventions.counterfactuals import Counterfactual, counterfactuals
    from analysis.interventions.edit_texts import edit_text, parse_edit
    from analysis.interventions.edits import (
        DropFrames,
        EditError,
        ForceGate,
        KnockOut,
        MoveFrames,
        Patch,
        ReplaceNeighbourhood,
        ScaleHead,
    )
    from analysis.interventions.effect_scores import effect_scores, effect_table
    from analysis.interventions.effects import attribution_agreement, effect_map
    from analysis.interventions.modules import module_effect_map, run_module_with
    from analysis.interventions.paths import trace_paths
    from analysis.interventions.running import logits_with, run_with
    from analysis.interventions.sites import Site, SiteError, site_value, sites
    from analysis.record.combine import combine_models
    from analysis.record.files import open_record, save_record
    from analysis.record.variables import DEFAULT_PARTS
    from analysis.sensitivity.norms import frame_gradient_norms, local_sensitivity
    from analysis.statistics.comparisons import compare_scores, compare_values
    from analysis.statistics.multiplicity import adjust_p_values
    from analysis.study.explainers.run import benchmark_explainers
    from analysis.study.explainers.summary import benchmark_means
    from gmsa_models.errors import ArgumentError

__all__ = [
    "DEFAULT_PARTS",
    "EXPLANATIONS",
    "Ablation",
    "ArgumentError",
    "Certificate",
    "ContextMeans",
    "Counterfactual",
    "DropFrames",
    "EditEngine",
    "EditError",
    "Explanation",
    "ForceGate",
    "KnockOut",
    "MoveFrames",
    "Patch",
    "RecordError",
    "ReplaceNeighbourhood",
    "Replacer",
    "ScaleHead",
    "Site",
    "SiteError",
    "Unevenness",
    "ablate_clip",
    "ablation_costs",
    "ablation_scores",
    "adjust_p_values",
    "all_ablations",
    "applicable",
    "attention_profile",
    "attribution_agreement",
    "benchmark_explainers",
    "benchmark_means",
    "branch_contributions",
    "certificate_table",
    "certify",
    "cka_table",
    "combine_models",
    "compare_scores",
    "compare_values",
    "context_means",
    "contribution_norms",
    "counterfactuals",
    "edit_text",
    "effect_map",
    "effect_scores",
    "effect_table",
    "explain",
    "explain_all",
    "explanation_scores",
    "frame_centred_cosine_similarity",
    "frame_cosine_similarity",
    "frame_gradient_norms",
    "head_profiles",
    "head_taxonomy",
    "inspect_clip",
    "inspect_clips",
    "inspect_module",
    "linear_cka",
    "local_sensitivity",
    "local_share",
    "logits_with",
    "module_effect_map",
    "open_record",
    "parse_edit",
    "pattern_table",
    "rank_correlation_with_shuffled",
    "run_module_with",
    "run_with",
    "save_record",
    "site_value",
    "sites",
    "trace_paths",
    "traced_similarity",
    "unevenness",
]

_MODULES = {
    "Ablation": "analysis.interventions.ablation",
    "Certificate": "analysis.attention.certificates",
    "ContextMeans": "analysis.interventions.ablation",
    "Counterfactual": "analysis.interventions.counterfactuals",
    "DEFAULT_PARTS": "analysis.record.variables",
    "DropFrames": "analysis.interventions.edits",
    "EXPLANATIONS": "analysis.explanations.registry",
    "EditEngine": "analysis.inspect.engine",
    "EditError": "analysis.interventions.edits",
    "Explanation": "analysis.explanations.explanation",
    "ArgumentError": "gmsa_models.errors",
    "ForceGate": "analysis.interventions.edits",
    "KnockOut": "analysis.interventions.edits",
    "MoveFrames": "analysis.interventions.edits",
    "Patch": "analysis.interventions.edits",
    "RecordError": "analysis.errors",
    "ReplaceNeighbourhood": "analysis.interventions.edits",
    "Replacer": "analysis.explanations.faithfulness",
    "ScaleHead": "analysis.interventions.edits",
    "Site": "analysis.interventions.sites",
    "SiteError": "analysis.interventions.sites",
    "Unevenness": "analysis.attention.profiles",
    "ablate_clip": "analysis.interventions.ablation_scores",
    "ablation_costs": "analysis.interventions.ablation_scores",
    "ablation_scores": "analysis.interventions.ablation_scores",
    "adjust_p_values": "analysis.statistics.multiplicity",
    "all_ablations": "analysis.interventions.ablation",
    "applicable": "analysis.explanations.registry",
    "attention_profile": "analysis.attention.profiles",
    "attribution_agreement": "analysis.interventions.effects",
    "benchmark_explainers": "analysis.study.explainers.run",
    "benchmark_means": "analysis.study.explainers.summary",
    "branch_contributions": "analysis.attention.gates",
    "certificate_table": "analysis.attention.certificates",
    "certify": "analysis.inspect.maps",
    "cka_table": "analysis.attention.representations",
    "combine_models": "analysis.record.combine",
    "compare_scores": "analysis.statistics.comparisons",
    "compare_values": "analysis.statistics.comparisons",
    "context_means": "analysis.interventions.ablation_scores",
    "contribution_norms": "analysis.attention.gates",
    "counterfactuals": "analysis.interventions.counterfactuals",
    "edit_text": "analysis.interventions.edit_texts",
    "effect_map": "analysis.interventions.effects",
    "effect_scores": "analysis.interventions.effect_scores",
    "effect_table": "analysis.interventions.effect_scores",
    "explain": "analysis.explanations.registry",
    "explain_all": "analysis.explanations.registry",
    "explanation_scores": "analysis.explanations.scores",
    "frame_centred_cosine_similarity": "analysis.attention.similarity",
    "frame_cosine_similarity": "analysis.attention.similarity",
    "frame_gradient_norms": "analysis.sensitivity.norms",
    "head_profiles": "analysis.attention.profiles",
    "head_taxonomy": "analysis.inspect.maps",
    "inspect_clip": "analysis.inspect.clips",
    "inspect_clips": "analysis.inspect.clips",
    "inspect_module": "analysis.inspect.module",
    "linear_cka": "analysis.attention.similarity",
    "local_sensitivity": "analysis.sensitivity.norms",
    "local_share": "analysis.attention.gates",
    "logits_with": "analysis.interventions.running",
    "module_effect_map": "analysis.interventions.modules",
    "open_record": "analysis.record.files",
    "parse_edit": "analysis.interventions.edit_texts",
    "pattern_table": "analysis.attention.pattern_table",
    "rank_correlation_with_shuffled": "analysis.explanations.sanity",
    "run_module_with": "analysis.interventions.modules",
    "run_with": "analysis.interventions.running",
    "save_record": "analysis.record.files",
    "site_value": "analysis.interventions.sites",
    "sites": "analysis.interventions.sites",
    "trace_paths": "analysis.interventions.paths",
    "traced_similarity": "analysis.attention.representations",
    "unevenness": "analysis.attention.profiles",
}


__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__

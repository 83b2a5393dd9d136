"""The variables of a record that judge its maps: patterns a head, what branches contribute, certificates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from analysis.attention.certificates import CHECKS, Certificate, certify
from analysis.attention.gates import (
    attention_block,
    branch_contributions,
    contribution_norms,
    gated_weight,
    local_share,
)
from analysis.attention.pattern_table import PATTERNS, branch_patterns
from analysis.record.labelled import Variables, by_branch, labelled, text
from analysis.view import ClipView, to_numpy

# What `certificate` holds.
PASSED, FAILED, NOTHING_TO_CHECK = 1, 0, -1


def pattern_variables(view: ClipView) -> Variables:
    """Every key of `PATTERNS` (modality, branch, head): entropy, distance, verticality and the like of each map."""
    found = {
        (modality, branch): branch_patterns(layer, branch, view.trace.valid, view.clip.frame_seconds)
        for modality, layer in view.layers.items()
        for branch in view.branches
    }
    if not found:
        return {}
    return {
        name: labelled(
            ("modality", "branch", "head"),
            by_branch(view, {place: values[name][0] for place, values in found.items()}, (view.heads,)),
            pattern.meaning,
            pattern.units,
        )
        for name, pattern in PATTERNS.items()
    }


def contribution_variables(view: ClipView) -> Variables:
    """`contribution` (modality, branch, frame): norm of what a branch adds to each output frame, before the bias.

    With a local branch also `local_share` (modality, frame). GateAtt also has `gated_weight` (modality, branch, frame),
    the weight that its gates let through, averaged over heads, and `gate_map` (modality, query, key), R_l averaged
    over heads.
    """
    if not view.branches:
        return {}
    norms = {}
    for modality, layer in view.layers.items():
        block = attention_block(view.model, modality, view.layer)
        norms[modality] = contribution_norms(branch_contributions(block, layer))
    frames = view.clip.frames
    placed = {(modality, branch): norm[0] for modality, each in norms.items() for branch, norm in each.items()}
    values = by_branch(view, placed, (frames,))
    found = {
        "contribution": labelled(("modality", "branch", "frame"), values, "norm of what the branch adds", "norm of Y")
    }
    if "local" in view.branches:
        shares = np.stack([to_numpy(local_share(each)[0]) for each in norms.values()])
        meaning = "local part of the output, ||local|| / (||local|| + ||global||)"
        found["local_share"] = labelled(("modality", "frame"), shares, meaning, "share of 1")
    gated = attention_block(view.model, view.modalities[0], view.layer).gated
    return found | (_pair_gates(view) if gated == "maps" else {})


def certificate_variables(view: ClipView) -> Variables:
    """`certificate` (modality, branch, check): 1 passed, 0 failed, -1 nothing to check.

    With `certificate_worst`, `certificate_tolerance` and, in words, `certificate_explanation`.
    """
    certificates = certify(view.model, view.trace, layer=view.layer)
    if not certificates:
        return {}
    dims = ("modality", "branch", "check")
    shape = (len(view.modalities), len(view.branches), len(CHECKS))

    def column(name: str) -> np.ndarray:
        return np.array([getattr(each, name) for each in certificates], np.float32).reshape(shape)

    verdicts = _verdicts(certificates).reshape(shape)
    explanations = text(each.explanation for each in certificates).reshape(shape)
    return {
        "certificate": labelled(dims, verdicts, "1 passed, 0 failed, -1 nothing to check"),
        "certificate_worst": labelled(dims, column("worst"), "largest violation found"),
        "certificate_tolerance": labelled(dims, column("tolerance"), "violation that rounding explains"),
        "certificate_explanation": labelled(dims, explanations, "what was measured"),
    }


def _verdicts(certificates: tuple[Certificate, ...]) -> Int[np.ndarray, " certificates"]:
    verdicts = {None: NOTHING_TO_CHECK, True: PASSED, False: FAILED}
    return np.array([verdicts[each.passed] for each in certificates], np.int8)


def _pair_gates(view: ClipView) -> Variables:
    weights = {
        (modality, branch): weight[0].mean(0)
        for modality, layer in view.layers.items()
        for branch, weight in gated_weight(layer).items()
    }
    gates = np.stack([to_numpy(layer.gates["local"][0].mean(0)) for layer in view.layers.values()])
    through = by_branch(view, weights, (view.clip.frames,))
    return {
        "gated_weight": labelled(("modality", "branch", "frame"), through, "weight let through", "share of 1"),
        "gate_map": labelled(("modality", "query", "key"), gates, "gate of the local branch, mean over heads", "1"),
    }

"""The variables of a record that judge its maps: patterns a head, what branches contribute, certificates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from analysis.attention.certificates import CHECKS, Certificate
from analysis.attention.gates import local_gate
from analysis.attention.of_view import (
    branch_head_patterns,
    branch_line_values,
    branch_lines,
    frame_contributions,
    frame_gated_weight,
    frame_local_share,
    gates_weigh_maps,
    line_gate,
)
from analysis.attention.pattern_table import PATTERNS
from analysis.record.labelled import Variables, by_branch, by_modality, labelled, maps_of, text
from analysis.record.lanes import Lane
from analysis.view import TraceView

__all__ = [
    "FAILED",
    "NOTHING_TO_CHECK",
    "PASSED",
    "certificate_variables",
    "contribution_variables",
    "line_variables",
    "pattern_variables",
]

# What `certificate` holds.
PASSED, FAILED, NOTHING_TO_CHECK = 1, 0, -1


def pattern_variables(view: TraceView, layer: int = 0) -> Variables:
    """Every key of `PATTERNS` (modality, branch, head): entropy, distance, verticality and the like of each map."""
    values = {place: branch_head_patterns(view, *place, layer) for place in maps_of(view, layer)}
    if not values:
        return {}
    return {
        name: labelled(
            ("modality", "branch", "head"),
            by_branch(view, layer, {place: each[name][0] for place, each in values.items()}, (view.heads,)),
            pattern.meaning,
            pattern.units,
        )
        for name, pattern in PATTERNS.items()
    }


def line_variables(view: TraceView, layer: int = 0) -> Variables:
    """Vertical lines: `line` (modality, branch, frame), the share of a branch's heads in which the frame is one.

    With `line_count`, `sink_rate` and, where the model can say its values, `line_norm_ratio` (modality, branch, head):
    norm of the values at the lines by the median frame's, near 0 for sinks at which attention is parked. With gates
    `line_gate` (modality, head): the local gate at lines of the global branch less elsewhere. See
    `analysis.attention.sinks`; what one clip cannot tell, `analysis.study.lines` does of many. Absent of edited passes.
    """
    places = list(maps_of(view, layer))
    if not places or view.edited:
        return {}
    lines = {place: branch_lines(view, *place, layer) for place in places}
    values = {place: branch_line_values(view, *place, layer) for place in places}
    shares = {place: each.line[0].float().mean(0) for place, each in lines.items()}
    lane = Lane(name="vertical lines", units="share of heads", least=0.0, most=1.0, order=15.0, overview=False)
    by_frame, by_head = ("modality", "branch", "frame"), ("modality", "branch", "head")
    heads = {
        "line_count": (
            {place: each.line[0].sum(-1).float() for place, each in lines.items()},
            "vertical lines", "keys",
        ),
        "sink_rate": (
            {place: each.sink_rate[0] for place, each in lines.items()},
            "keys of a mean weight above 0.3", "share of keys",
        ),
        "line_norm_ratio": (
            {place: each.norm_ratio[0] for place, each in values.items() if each is not None},
            "norm of the values at vertical lines", "1 = median frame",
        ),
    }  # fmt: skip
    return (
        {
            "line": labelled(
                by_frame,
                by_branch(view, layer, shares, (view.frames,)),
                "heads in which the frame is a line",
                "share",
                lane,
            )
        }
        | {
            name: labelled(by_head, by_branch(view, layer, each, (view.heads,)), meaning, units)
            for name, (each, meaning, units) in heads.items()
            if each
        }
        | _line_gates(view, layer)
    )


def _line_gates(view: TraceView, layer: int) -> Variables:
    gates = {modality: line_gate(view, modality, layer) for modality in view.modalities}
    values = {modality: gate[0] for modality, gate in gates.items() if gate is not None}
    if not values:
        return {}
    meaning = "local gate at vertical lines less elsewhere"
    return {"line_gate": labelled(("modality", "head"), by_modality(view, values), meaning, "share of 1")}


def contribution_variables(view: TraceView, layer: int = 0) -> Variables:
    """`contribution` (modality, branch, frame): norm of what a branch adds to each output frame, before the bias.

    With a local branch also `local_share` (modality, frame), of several their sum. GateAtt also has `gated_weight`
    (modality, branch, frame), the weight that its gates let through, averaged over heads, and `gate_map` (modality,
    query, key), R_l averaged
    over heads. What the model cannot say is absent.
    """
    norms = {modality: frame_contributions(view, modality, layer) for modality in view.modalities}
    placed = {(modality, branch): norm[0] for modality, each in norms.items() for branch, norm in each.items()}
    variables: Variables = {}
    if placed:
        values = by_branch(view, layer, placed, (view.frames,))
        meaning = "norm of what the branch adds"
        lane = Lane(name="contribution", units="norm in the output", least=0.0, order=30.0, overview=False)
        variables["contribution"] = labelled(("modality", "branch", "frame"), values, meaning, "norm of Y", lane)
    shares = {modality: frame_local_share(view, modality, layer) for modality in view.modalities}
    if shares := {modality: share[0] for modality, share in shares.items() if share is not None}:
        meaning = "local part of the output, ||local|| / (||local|| + ||global||)"
        values = by_modality(view, shares)
        variables["local_share"] = labelled(("modality", "frame"), values, meaning, "share of 1")
    return variables | _pair_gates(view, layer)


def certificate_variables(view: TraceView, layer: int = 0) -> Variables:
    """`certificate` (modality, branch, check): 1 passed, 0 failed, -1 nothing to check.

    With `certificate_worst`, `certificate_tolerance` and, in words, `certificate_explanation`. Absent where the model
    certifies nothing.
    """
    certify = view.capabilities.certificates
    with_maps = list(dict.fromkeys(modality for modality, _ in maps_of(view, layer)))
    if certify is None or not with_maps:
        return {}
    certificates = tuple(each for modality in with_maps for each in certify(view, modality, layer))
    dims = ("modality", "branch", "check")
    shape = (len(view.modalities), len(view.branches), len(CHECKS))
    rows = tuple(
        np.array(places)
        for places in zip(
            *(
                (view.modalities.index(each.modality), view.branches.index(each.branch), list(CHECKS).index(each.check))
                for each in certificates
            ),
            strict=True,
        )
    )

    def placed(values: np.ndarray, missing: object) -> np.ndarray:
        result = np.full(shape, missing, values.dtype)
        result[rows] = values
        return result

    def column(name: str) -> np.ndarray:
        return placed(np.array([getattr(each, name) for each in certificates], np.float32), np.nan)

    verdicts = placed(_verdicts(certificates), NOTHING_TO_CHECK)
    explanations = placed(text(each.explanation for each in certificates), "")
    return {
        "certificate": labelled(dims, verdicts, "1 passed, 0 failed, -1 nothing to check"),
        "certificate_worst": labelled(dims, column("worst"), "largest violation found"),
        "certificate_tolerance": labelled(dims, column("tolerance"), "violation that rounding explains"),
        "certificate_explanation": labelled(dims, explanations, "what was measured"),
    }


def _verdicts(certificates: tuple[Certificate, ...]) -> Int[np.ndarray, " certificates"]:
    verdicts = {None: NOTHING_TO_CHECK, True: PASSED, False: FAILED}
    return np.array([verdicts[each.passed] for each in certificates], np.int8)


def _pair_gates(view: TraceView, layer: int) -> Variables:
    gated = [modality for modality in view.modalities if gates_weigh_maps(view, modality, layer)]
    if not gated:
        return {}
    weights = {
        (modality, branch): weight[0]
        for modality in gated
        for branch, weight in frame_gated_weight(view, modality, layer).items()
    }
    through = by_branch(view, layer, weights, (view.frames,))
    gates = by_modality(view, {name: local_gate(view.layer(name, layer))[0].mean(0) for name in gated})
    return {
        "gated_weight": labelled(("modality", "branch", "frame"), through, "weight let through", "share of 1"),
        "gate_map": labelled(("modality", "query", "key"), gates, "gate of the local branch, mean over heads", "1"),
    }

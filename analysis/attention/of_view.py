"""What a view's maps and gates come to, batched: the one place where records, sweeps and studies take each from.

Every function takes a view, a modality and the number of a layer; values at padded frames are NaN.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.attention.gates import PerBranch, contribution_norms, gated_weight, local_share, mean_gates
from analysis.attention.maps import AttentionRows, attention_rows, attention_support, layer_maps
from analysis.attention.pattern_table import PATTERNS, Known, branch_patterns
from analysis.attention.profiles import Unevenness, head_profiles, unevenness
from analysis.attention.sinks import Lines, LineValues, find_lines, gate_at_lines, line_values
from analysis.attention.verticality import Verticality, row_verticality
from analysis.view import TraceView, frame_seconds
from gmsa_models.branches import COMBINED, GLOBAL

__all__ = [
    "block_map",
    "branch_head_patterns",
    "branch_head_profiles",
    "branch_line_values",
    "branch_lines",
    "branch_profile",
    "branch_unevenness",
    "branch_verticality",
    "frame_contributions",
    "frame_gated_weight",
    "frame_gates",
    "frame_local_share",
    "gates_weigh_maps",
    "line_gate",
]


LINES = ("ratio", "reach", "line", "sink_rate")


def branch_head_profiles(
    view: TraceView, modality: str, branch: str, layer: int = 0
) -> Float[Tensor, "batch heads frames"]:
    """Attention received, head by head of a branch, each over its own mask; see `head_profiles`."""

    def compute() -> Float[Tensor, "batch heads frames"]:
        parts = layer_maps(view.layer(modality, layer))[branch]
        return torch.cat([head_profiles(part.weights, part.neighbourhood, view.valid) for part in parts], -2)

    return view.once(("head profiles", modality, branch, layer), compute)


def branch_profile(view: TraceView, modality: str, branch: str, layer: int = 0) -> Float[Tensor, "batch frames"]:
    """Attention received, mean over the heads of a branch; see `attention_profile`."""
    return branch_head_profiles(view, modality, branch, layer).mean(-2)


def branch_unevenness(view: TraceView, modality: str, branch: str, layer: int = 0) -> Unevenness:
    """Gini coefficient and entropy of `branch_profile`, one value a clip; NaN where edits have left no attention."""
    profile = branch_profile(view, modality, branch, layer)
    if not view.edited or not bool((empty := profile.nansum(-1) == 0).any()):
        return unevenness(profile)
    values = unevenness(profile.masked_fill(empty[:, None], 1.0))
    fields = ("entropy", "uniform_entropy", "relative_entropy", "gini")
    return Unevenness(*(getattr(values, name).masked_fill(empty, torch.nan) for name in fields))


def branch_head_patterns(
    view: TraceView, modality: str, branch: str, layer: int = 0
) -> dict[str, Float[Tensor, "batch heads"]]:
    """Every key of `PATTERNS` of a branch's heads; distances in seconds.

    NaN for a head in which edits have left some query nothing to attend to, and then no head of the branch is compared
    with the others.
    """

    def compute() -> dict[str, Float[Tensor, "batch heads"]]:
        seconds = frame_seconds(view)[:, None]
        values = _edited_patterns(view, modality, branch, layer) if view.edited else None
        known = view.once(("known patterns", modality, layer), Known)
        values = values or branch_patterns(view.layer(modality, layer), branch, view.valid, known=known)
        return {name: each * seconds if PATTERNS[name].units == "s" else each for name, each in values.items()}

    return view.once(("head patterns", modality, branch, layer), compute)


def _edited_patterns(
    view: TraceView, modality: str, branch: str, layer: int
) -> dict[str, Float[Tensor, "batch heads"]] | None:
    """Patterns of a branch in which some query attends to nothing; None where none does."""
    traced = view.layer(modality, layer)
    weights = traced.weights[branch]
    silent = ((weights.sum(-1) == 0) & view.valid[:, None]).any(-1)
    if not bool(silent.any()):
        return None
    # Any map will do for the heads that are left out.
    even = torch.cat(
        [
            AttentionRows(part.weights, attention_support(part.weights, part.neighbourhood, view.valid)).uniform.expand(
                part.weights.shape
            )
            for part in layer_maps(traced)[branch]
        ],
        1,
    )
    filled = torch.where(silent[:, :, None, None], even.to(weights), weights)
    values = branch_patterns(replace(traced, weights={**traced.weights, branch: filled}), branch, view.valid)
    compared = silent.any(1, keepdim=True).expand_as(silent)
    return {
        name: each.masked_fill(compared if name == "redundancy" else silent, torch.nan) for name, each in values.items()
    }


def branch_verticality(view: TraceView, modality: str, branch: str, layer: int = 0) -> Verticality:
    """Verticality of a branch's heads alone, as it is among `branch_head_patterns`: (batch, heads)."""
    parts = layer_maps(view.layer(modality, layer))[branch]
    each = [row_verticality(attention_rows(part.weights, part.neighbourhood, view.valid)) for part in parts]
    names = ("value", "null_mean", "null_deviation", "adjusted", "p_value")
    return Verticality(*(torch.cat([getattr(one, name) for one in each], -1) for name in names))


def branch_lines(view: TraceView, modality: str, branch: str, layer: int = 0) -> Lines:
    """Vertical lines of a branch's heads, each within its own mask; see `find_lines`."""

    def compute() -> Lines:
        parts = layer_maps(view.layer(modality, layer))[branch]
        each = [find_lines(part.weights, part.neighbourhood, view.valid) for part in parts]
        return Lines(*(torch.cat([getattr(one, name) for one in each], 1) for name in LINES))

    return view.once(("lines", modality, branch, layer), compute)


def branch_line_values(view: TraceView, modality: str, branch: str, layer: int = 0) -> LineValues | None:
    """What stands at the lines of a branch's heads, see `line_values`; None of a model that cannot say its values."""
    if view.capabilities.values is None or view.edited:
        return None
    weights = view.layer(modality, layer).weights[branch]
    values = view.capabilities.values(view, modality, layer)[branch]
    return line_values(branch_lines(view, modality, branch, layer), weights, values, view.valid)


def line_gate(view: TraceView, modality: str, layer: int = 0) -> Float[Tensor, "batch heads"] | None:
    """Local gate at the lines of the global branch less elsewhere, see `gate_at_lines`; None without gates."""
    traced = view.layer(modality, layer)
    if not traced.gates or view.edited:
        return None
    return gate_at_lines(branch_lines(view, modality, "global", layer), traced, view.valid)


def frame_gates(view: TraceView, modality: str, layer: int = 0) -> PerBranch:
    """Mean gates of each frame, branch by branch, see `mean_gates`; empty without gates."""
    traced = view.layer(modality, layer)
    return mean_gates(traced, view.valid) if traced.gates else {}


def gates_weigh_maps(view: TraceView, modality: str, layer: int = 0) -> bool:
    """Whether the layer has gates over pairs of frames (as GateAtt), not over features (as GateOp) and not none."""
    return any(gate.ndim == 4 for gate in view.layer(modality, layer).gates.values())


def frame_gated_weight(view: TraceView, modality: str, layer: int = 0) -> PerBranch:
    """Weight that gates over pairs of frames let through, mean over heads, see `gated_weight`; empty without them."""
    if not gates_weigh_maps(view, modality, layer):
        return {}
    return {branch: each.mean(1) for branch, each in gated_weight(view.layer(modality, layer), view.valid).items()}


def frame_contributions(view: TraceView, modality: str, layer: int = 0) -> PerBranch:
    """Norm of what each branch adds to each frame, see `contribution_norms`; empty where the model cannot say."""
    contributions = view.capabilities.contributions
    if contributions is None or not view.layer(modality, layer).weights:
        return {}
    return contribution_norms(contributions(view, modality, layer), view.valid)


def frame_local_share(view: TraceView, modality: str, layer: int = 0) -> Float[Tensor, "batch frames"] | None:
    """Share of the local branch in each frame's output, see `local_share`; None without a local branch."""
    norms = frame_contributions(view, modality, layer)
    return local_share(norms) if norms.keys() - {GLOBAL} else None


def block_map(view: TraceView, modality: str, layer: int = 0) -> Float[Tensor, "batch query key"]:
    """The one map that stands for a block, mean over heads; as `analysis.attention.blend` takes it from a record."""
    weights = {branch: each.mean(1) for branch, each in view.layer(modality, layer).weights.items()}
    if COMBINED in weights:
        return weights[COMBINED]
    if not (gates := frame_gates(view, modality, layer)):
        (only,) = weights.values()
        return only
    return reduce(add, (gate[:, :, None] * weights[branch] for branch, gate in gates.items()))

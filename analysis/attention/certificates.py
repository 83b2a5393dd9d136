"""Certificates: what a map is said to be, computed and not assumed; how is told in `analysis.attention.disturbance`.

Published attention maps have been transposed, or had their softmax over the wrong axis; these say that they are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.attention.disturbance import ODDS_TOLERANCE, DisturbedPasses, epsilon, gather
from analysis.attention.maps import layer_maps
from gmsa_models.attention import AttentionBlock, BlockTrace
from gmsa_models.branches import COMBINED, GLOBAL
from gmsa_models.evaluating import standard_contexts
from gmsa_models.trace import LayerTrace

__all__ = ["CHECKS", "Certificate", "certificate_table", "certify_layer"]

# Gates are computed again in float64 for about this many queries a map.
SAMPLED_QUERIES = 32


@dataclass(frozen=True)
class Certificate:
    """One check of the maps of one branch.

    Attributes:
        modality: stream of the video.
        branch: which of the block's, or "combined".
        check: a key of `CHECKS`.
        passed: whether `worst` is at most `tolerance`; None: nothing to check, and `explanation` says why.
        worst: the largest violation over clips, heads, queries and keys; NaN where there is nothing to check.
        tolerance: what rounding explains; 0 = exactly.
        explanation: what was measured, in one sentence.
    """

    modality: str
    branch: str
    check: str
    passed: bool | None
    worst: float
    tolerance: float
    explanation: str


# The largest violation (None: nothing to check), its tolerance, what was measured.
Finding = tuple[float | None, float, str]
Check = Callable[[DisturbedPasses, str], Finding]


def certify_layer(
    block: AttentionBlock, modality: str, recorded: LayerTrace, valid: Bool[Tensor, "batch frames"], seed: int = 0
) -> tuple[Certificate, ...]:
    """Check every attention map of one traced layer; only the block's weights and the traced X are taken as given.

    Args:
        block: the block that made the trace.
        modality: its stream, which the certificates name.
        recorded: of one clip or a batch; padded clips are certified too.
        valid: True where a frame is real.
        seed: which frames are moved, and where to.

    Returns:
        One certificate a branch and check, in that order.
    """
    with standard_contexts():
        evidence = gather(block, recorded, valid, seed)
        branches = layer_maps(recorded)
        return tuple(_certificate(evidence, modality, branch, check) for branch in branches for check in CHECKS)


def certificate_table(certificates: Sequence[Certificate]) -> pd.DataFrame:
    """Certificates as a table, one a row; columns are the fields of `Certificate`."""
    columns = [field.name for field in fields(Certificate)]
    return pd.DataFrame([[getattr(each, name) for name in columns] for each in certificates], columns=columns)


def check_values(evidence: DisturbedPasses, branch: str) -> Finding:
    """Weights are finite and at least 0."""
    weights = evidence.recorded.weights[branch]
    if not bool(weights.isfinite().all()):
        return math.inf, 0.0, f"{int((~weights.isfinite()).sum())} weights are not finite"
    return max(0.0, -float(weights.min())), 0.0, "every weight is finite and at least 0"


def check_rows(evidence: DisturbedPasses, branch: str) -> Finding:
    """Rows sum to 1; those of GateAtt's combined map to sum_j R_g A_g + R_l A_l."""
    layer, valid = evidence.recorded, evidence.valid
    sums = _of_queries(layer.weights[branch].double().sum(-1), valid)
    # Storing a weight rounds it once; the softmax's own sum over T keys rounds T times at most, in float32 or wider.
    inputs = layer.recorded("input")
    tolerance = epsilon(inputs) + inputs.shape[1] * epsilon(sums.float())
    explanation = f"rows sum to {sums.min():.6f} to {sums.max():.6f}"
    if not _is_gated(evidence, branch):
        return float((sums - 1).abs().max()), tolerance, explanation
    parts = [gate.double() * layer.weights[name].double() for name, gate in layer.gates.items()]
    expected = _of_queries(reduce(add, parts).sum(-1), valid)
    explanation += ", the sums of R_g A_g + R_l A_l: not 1, because gates differ from key to key"
    return float((sums - expected).abs().max()), 2 * tolerance, explanation


def check_neighbourhood(evidence: DisturbedPasses, branch: str) -> Finding:
    """No weight outside N_i, exactly, before and after the disturbance."""
    block, recorded = evidence.block, evidence.recorded
    if branch == GLOBAL or _is_gated(evidence, branch):
        return None, 0.0, "this branch may attend to every frame"
    inputs = recorded.recorded("input")
    each = block.local_branches if branch == COMBINED else (branch,)
    (mask,), own = [block.mask(inputs, name) for name in each], block.neighbourhood_of(each[0])
    for whole, known in ((mask, recorded.mask_of(each[0])), (block.mask(inputs), recorded.neighbourhood)):
        if known is None or not torch.equal(whole, known):
            return math.inf, 0.0, f"the recorded neighbourhood is not that of {own}"
    layers: list[LayerTrace | BlockTrace] = [recorded, *evidence.again]
    outside = [
        float((part.weights.abs() * ~(mask if mask.ndim == 2 else mask[:, None])).max())
        for layer in layers
        for part in layer_maps(layer)[branch]
        if part.neighbourhood is not None
    ]
    return _largest(outside), 0.0, f"largest weight outside {own}"


def check_padding(evidence: DisturbedPasses, branch: str) -> Finding:
    """No weight on padded keys or in rows of padded queries, exactly; real frames declared padding get none either."""
    pairs: list[tuple[LayerTrace | BlockTrace, Tensor]] = [(evidence.recorded, evidence.valid)]
    pairs += [(layer, evidence.valid & ~evidence.hidden) for layer in evidence.again]
    padded, hidden = int((~evidence.valid).sum()), int(evidence.hidden.sum())
    if padded + hidden == 0:
        return None, 0.0, "no frame is padding, and the clip is too short to declare one so"
    worst = [
        float((layer.weights[branch].abs() * ~(real[:, None, :, None] & real[:, None, None])).max())
        for layer, real in pairs
    ]
    return _largest(worst), 0.0, f"largest weight on {padded} padded frames and {hidden} real ones declared padding"


def check_orientation(evidence: DisturbedPasses, branch: str) -> Finding:
    """Odds between keys that were not disturbed stay as they were along each row, and do not down the columns."""
    if branch == COMBINED:
        return (_check_gating if _is_gated(evidence, branch) else _check_joining)(evidence)
    if branch not in evidence.orientations:
        return None, ODDS_TOLERANCE, "no query sees a moved frame beside two others: no odds to compare"
    orientation = evidence.orientations[branch]
    if evidence.half and not _agrees(evidence, branch):
        return math.inf, ODDS_TOLERANCE, "the recorded map is not the one that the block computes in float32"
    worst = float(orientation.map.kept.max())
    if worst <= ODDS_TOLERANCE and not (orientation.map.is_attention and orientation.transposed.is_none):
        weights = evidence.recorded.weights[branch]
        if float((weights - weights.mT).abs().max()) <= 16 * epsilon(weights):
            return None, ODDS_TOLERANCE, "the map equals its transpose"
        why = (
            "the transposed map passes the same test"
            if orientation.map.is_attention
            else "moved frames keep their columns"
        )
        return math.inf, ODDS_TOLERANCE, f"{why}: nothing is shown"
    explanation = f"largest change of log odds in a row; transposed {orientation.transposed.kept.min():.2g} or more"
    return worst, ODDS_TOLERANCE, explanation


def check_context(evidence: DisturbedPasses, branch: str) -> Finding:
    """The context that the block went on with is this map times V."""
    layer, valid = evidence.recorded, evidence.valid
    _, _, value = evidence.block.project(layer.recorded("input").to(evidence.block.value.weight.dtype))
    first = layer_maps(layer)[branch][0].first_head
    weights = layer.weights[branch]
    again = weights.to(value.dtype) @ value[:, first : first + weights.shape[1]]
    context = layer.contexts[branch]
    difference = ((again - context).abs() * valid[:, None, :, None]).max() / context.abs().max()
    return float(difference), 0.05 if evidence.half else 1e-4, "largest difference from A V, relative to the largest"


CHECKS: dict[str, Check] = {
    "values": check_values,
    "rows": check_rows,
    "neighbourhood": check_neighbourhood,
    "padding": check_padding,
    "orientation": check_orientation,
    "context": check_context,
}


def _certificate(evidence: DisturbedPasses, modality: str, branch: str, check: str) -> Certificate:
    worst, tolerance, explanation = CHECKS[check](evidence, branch)
    if worst is None:
        return Certificate(modality, branch, check, None, math.nan, tolerance, explanation)
    # A nan is a violation too: no comparison with it holds.
    return Certificate(modality, branch, check, worst <= tolerance, worst, tolerance, explanation)


def _check_gating(evidence: DisturbedPasses) -> Finding:
    """GateAtt's combined map is R_g A_g + R_l A_l with gates recomputed from the two maps, whose orientation is known.

    Gates mix all keys, so odds say nothing here. Equation 3 works row by row, so that some rows of the maps suffice.
    """
    if not _branches_pass(evidence):
        return math.inf, 0.0, "the global or the local map is not certified"
    layer, block = evidence.recorded, evidence.block
    frames, device = layer.weights["global"].shape[-1], layer.weights["global"].device
    rows = torch.arange(0, frames, max(1, frames // SAMPLED_QUERIES), device=device)
    expected = block.combine({name: layer.weights[name][:, :, rows].double() for name in block.branches})
    worst = float((layer.weights["combined"][:, :, rows] - expected).abs().max())
    explanation = f"largest difference from R_g A_g + R_l A_l, gates recomputed, in {len(rows)} rows"
    return worst, 0.05 if evidence.half else 1e-5, explanation


def _check_joining(evidence: DisturbedPasses) -> Finding:
    """ShareAtt's combined map is its global heads and then its local heads, whose orientation is known."""
    if not _branches_pass(evidence):
        return math.inf, 0.0, "the global or the local map is not certified"
    weights = evidence.recorded.weights
    joined = evidence.block.combine({name: weights[name] for name in evidence.block.branches})
    return float((weights["combined"] - joined).abs().max()), 0.0, "difference from the global heads, then the local"


def _branches_pass(evidence: DisturbedPasses) -> bool:
    certificates = [check_orientation(evidence, branch) for branch in evidence.block.branches]
    return all(worst is None or worst <= tolerance for worst, tolerance, _ in certificates)


def _agrees(evidence: DisturbedPasses, branch: str) -> bool:
    return bool((evidence.recorded.weights[branch] - evidence.base.weights[branch]).abs().max() < 0.1)


def _is_gated(evidence: DisturbedPasses, branch: str) -> bool:
    """Whether this map is blended by gates, and so no softmax."""
    return branch == COMBINED and evidence.block.combined == "blended"


def _of_queries(
    values: Float[Tensor, "batch heads query"], valid: Bool[Tensor, "batch query"]
) -> Float[Tensor, "_ heads"]:
    return values.mT[valid]


def _largest(values: Sequence[float]) -> float:
    """The largest; nan, which would pass every comparison for the largest by failing it, counts as infinite."""
    return math.inf if any(math.isnan(value) for value in values) else max(values)

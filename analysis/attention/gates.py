"""What each branch of a block contributes: its gates, and the part of the output that came through it."""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.attention import AttentionBlock
from gmsa_models.branches import GLOBAL
from gmsa_models.errors import ArgumentError
from gmsa_models.trace import LayerTrace

__all__ = [
    "PerBranch",
    "branch_contributions",
    "contribution_norms",
    "feature_gates",
    "gated_weight",
    "local_gate",
    "local_share",
    "mean_gates",
    "output_bias",
    "pair_gates",
]

PerBranch = dict[str, Float[Tensor, "batch frames"]]


def pair_gates(
    layer: LayerTrace, valid: Bool[Tensor, "batch frames"] | None = None, inside: bool = False
) -> dict[str, Float[Tensor, "batch heads query"]]:
    """GateAtt's R_g and R_l, averaged over the keys of each query.

    Args:
        layer: of a GateAtt block.
        valid: True where a frame is real; None: everywhere.
        inside: average over the neighbourhood only, where the local map has weight and so where R_l acts.

    Returns:
        Values in (0, 1), "global" and "local" adding to 1 (over the same keys); NaN at padded queries.

    Raises:
        ArgumentError: a block whose gates are not over pairs of frames.

    Source:
        Equation 3.
    """
    gates = _gates(layer, 4, "pairs of frames in this layer; GateAtt has them")
    keys = _real(layer, valid)[:, None, None, :]
    if inside and layer.neighbourhood is not None:
        keys = keys & layer.head_mask
    count = keys.sum(-1).to(next(iter(gates.values())).dtype)
    means = {branch: (gate * keys).sum(-1) / count for branch, gate in gates.items()}
    return {branch: _only_real(mean, layer, valid) for branch, mean in means.items()}


def feature_gates(layer: LayerTrace, valid: Bool[Tensor, "batch frames"] | None = None) -> PerBranch:
    """Gates of GateOp and GateOpScales, averaged over the D features of each frame.

    Args:
        layer: of such a block.
        valid: True where a frame is real; None: everywhere.

    Returns:
        Values in (0, 1) of each branch, adding to 1; NaN at padded frames.

    Raises:
        ArgumentError: a block whose gates are not over frames and features.

    Source:
        Equation 8.
    """
    gates = _gates(layer, 3, "frames and features in this layer; GateOp has them")
    return {branch: _only_real(gate.mean(-1), layer, valid) for branch, gate in gates.items()}


def mean_gates(layer: LayerTrace, valid: Bool[Tensor, "batch frames"] | None = None) -> PerBranch:
    """Gates of each frame, one number a branch, averaged over what each gate acts on.

    GateAtt: over heads and, R_g, over every key; R_l over the keys inside N_i, since outside it R_l stands before a
    weight of 0 and changes nothing. The two add to 1 at a pair of frames, but means over different keys need not.
    GateOp and GateOpScales: over the D features; the branches add to 1.

    Args:
        layer: of a block with gates.
        valid: True where a frame is real; None: everywhere.

    Returns:
        One in (0, 1) a branch; NaN at padded frames.

    Raises:
        ArgumentError: a block without gates.

    Source:
        Equations 3 and 8.
    """
    if any(gate.ndim == 4 for gate in layer.gates.values()):
        everywhere, inside = (pair_gates(layer, valid, inside=each) for each in (False, True))
        return {branch: (everywhere if branch == GLOBAL else inside)[branch].mean(1) for branch in layer.gates}
    return feature_gates(layer, valid)


def gated_weight(
    layer: LayerTrace, valid: Bool[Tensor, "batch frames"] | None = None
) -> dict[str, Float[Tensor, "batch heads query"]]:
    """How much attention GateAtt lets through from each branch: sum_j R_g A_g and sum_j R_l A_l of each query.

    Together they are the row sum of the combined map, which is why that need not be 1: with A_g and A_l summing to 1
    and gates that differ from key to key, it lies anywhere in (0, 2).

    Args:
        layer: of a GateAtt block.
        valid: True where a frame is real; None: everywhere.

    Returns:
        Shares of 1, "global" and "local"; NaN at padded queries.

    Raises:
        ArgumentError: a block whose gates are not over pairs of frames.

    Source:
        Equation 4.
    """
    gates = _gates(layer, 4, "pairs of frames in this layer; GateAtt has them")
    sums = {branch: (gate * layer.weights[branch]).sum(-1) for branch, gate in gates.items()}
    return {branch: _only_real(total, layer, valid) for branch, total in sums.items()}


def branch_contributions(block: AttentionBlock, layer: LayerTrace) -> dict[str, Float[Tensor, "batch frames dim"]]:
    """The output Y of a block as a sum over its branches, without its bias: Y - b = global + local.

    Baseline: all of it is global. ShareAtt: W_O on the contexts of the global heads, and of the local heads. GateAtt:
    W_O on concat_m((R_g * A_g) V), and on concat_m((R_l * A_l) V). GateOp: R_g * Y_g, and R_l * Y_l.

    Args:
        block: the block that `layer` is a trace of.
        layer: its trace.

    Returns:
        One a branch of the block. Padded frames hold values of no meaning.

    Source:
        Equations 1 to 9; all four blocks are linear in their contexts, so the split is exact.
    """
    return block.contributions(layer)


def output_bias(block: AttentionBlock) -> Tensor | None:
    """b of Y - b = sum of contributions: the output projection's bias, None without one."""
    return block.bias()


def contribution_norms(
    contributions: dict[str, Float[Tensor, "batch frames dim"]], valid: Bool[Tensor, "batch frames"] | None = None
) -> PerBranch:
    """Euclidean norm of what each branch adds to each frame, as ||R_g * Y_g|| and ||R_l * Y_l||.

    Args:
        contributions: of `branch_contributions`.
        valid: True where a frame is real; None: everywhere.

    Returns:
        Norms, in the unit of Y, in float32 or wider; NaN at padded frames. They add to at least ||Y - b||, and to more
        where branches cancel.
    """
    wide = {branch: part.to(torch.promote_types(part.dtype, torch.float32)) for branch, part in contributions.items()}
    norms = {branch: part.norm(dim=-1) for branch, part in wide.items()}
    return norms if valid is None else {branch: norm.masked_fill(~valid, torch.nan) for branch, norm in norms.items()}


def local_share(norms: PerBranch) -> Float[Tensor, "batch frames"]:
    """Share of the local branches in each frame's output: ||local|| / (||local|| + ||global||).

    Args:
        norms: of `contribution_norms`; those of several local branches are added.

    Returns:
        Values in [0, 1], 1 = all local; NaN at padding and where no branch adds anything.

    Raises:
        ArgumentError: a block without a local branch.
    """
    near = [norm for branch, norm in norms.items() if branch != GLOBAL]
    if not near:
        raise ArgumentError(f"a share needs a local branch; got {', '.join(norms)}")
    return reduce(add, near) / reduce(add, norms.values())


def local_gate(layer: LayerTrace) -> Tensor:
    """R_l, of several local branches the sum of theirs.

    Raises:
        ArgumentError: a layer without gates.
    """
    near = [gate for branch, gate in layer.gates.items() if branch != GLOBAL]
    if not near:
        raise ArgumentError("the layer has no gate of a local branch")
    return reduce(add, near)


def _gates(layer: LayerTrace, axes: int, where: str) -> dict[str, Tensor]:
    if any(gate.ndim != axes for gate in layer.gates.values()) or not layer.gates:
        raise ArgumentError(f"no gates over {where}")
    return layer.gates


def _real(layer: LayerTrace, valid: Bool[Tensor, "batch frames"] | None) -> Bool[Tensor, "batch frames"]:
    if valid is not None:
        return valid
    weights = next(iter(layer.weights.values()))
    return torch.ones(len(weights), weights.shape[-1], dtype=torch.bool, device=weights.device)


def _only_real(
    values: Float[Tensor, "batch *heads frames"], layer: LayerTrace, valid: Bool[Tensor, "batch frames"] | None
) -> Float[Tensor, "batch *heads frames"]:
    real = _real(layer, valid)
    return values.masked_fill(~(real if values.ndim == 2 else real[:, None]), torch.nan)

"""The maps by which a block mixes frames, one a branch, adding up to the map that stands for the whole block."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gmsa_models.attention import AttentionBlock, GateAtt, GateOp
from gmsa_models.trace import LayerTrace

HeadMaps = dict[str, Float[Tensor, "_ query key"]]


def branch_maps(block: AttentionBlock, layer: LayerTrace) -> HeadMaps:
    """What each head of each branch mixes the frames of one clip by.

    Baseline: A. ShareAtt: A of its global heads and A of its local heads. GateAtt: R_g * A_g and R_l * A_l, which add
    up to the combined map. GateOp, which blends outputs instead of maps: rows of A_g and A_l times the mean over
    features of the query's gates.

    Args:
        block: the block that `layer` is a trace of.
        layer: of one clip, batch 1.

    Returns:
        "global", and "local" where the block has that branch.

    Source:
        Equations 1 to 9.
    """
    weights = {name: each[0] for name, each in layer.weights.items() if name != "combined"}
    if isinstance(block, GateAtt):
        return {name: layer.gates[name][0] * each for name, each in weights.items()}
    if isinstance(block, GateOp):
        return {name: layer.gates[name][0].mean(-1)[:, None] * each for name, each in weights.items()}
    return weights


def over_heads(maps: HeadMaps, heads: int) -> dict[str, Float[Tensor, "query key"]]:
    """Sum over the heads of each branch by the number of heads of the block: the parts of the mean map."""
    return {name: each.sum(0) / heads for name, each in maps.items()}

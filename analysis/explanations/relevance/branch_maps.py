"""The maps by which a block mixes frames, averaged over heads."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gmsa_models.attention import AttentionBlock
from gmsa_models.trace import LayerTrace

__all__ = ["branch_maps", "over_heads"]

HeadMaps = dict[str, Float[Tensor, "_ query key"]]


def branch_maps(block: AttentionBlock, layer: LayerTrace) -> HeadMaps:
    """What each head of each branch mixes the frames of one clip by; see `AttentionBlock.mixing_maps`.

    Args:
        block: the block that `layer` is a trace of.
        layer: of one clip, batch 1.

    Returns:
        One a branch of the block.
    """
    return {branch: maps[0] for branch, maps in block.mixing_maps(layer).items()}


def over_heads(maps: HeadMaps, heads: int) -> dict[str, Float[Tensor, "query key"]]:
    """Sum over the heads of each branch by the number of heads of the block: the parts of the mean map."""
    return {name: each.sum(0) / heads for name, each in maps.items()}

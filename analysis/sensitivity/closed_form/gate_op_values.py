"""GateOp: how the values of frame j meet themselves in |J_ij|^2.

The term: docs/concepts/frame_sensitivity.md.
"""

from __future__ import annotations

from functools import reduce
from itertools import combinations_with_replacement
from operator import add

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.chunking import chunks
from analysis.sensitivity.closed_form.constants import GateOpTables
from analysis.sensitivity.closed_form.gate_op_state import GLOBAL, GateOpClip, Tile, matrices_of

__all__ = ["global_value_pairs", "near_value_pairs"]


def global_value_pairs(clip: GateOpClip, tables: GateOpTables, max_bytes: int) -> Float[Tensor, "query key"]:
    """The term above where both branches are global, for every query i and key j.

    Args:
        clip: maps, projections and factors of one clip.
        tables: of the block.
        max_bytes: about the most that a part of the output components may take.
    """
    frames, dim = clip.factors.shape[1:]
    total = torch.zeros_like(clip.weights[GLOBAL, 0])
    for part in chunks(dim, max_bytes, (2 * clip.heads + 8) * frames * total.element_size()):
        moved = clip.value @ tables.matrices[:2, :, :, part]
        total += _pairs(clip.weights, clip.directions, clip.factors[:, :, part], moved, GLOBAL, GLOBAL)
    return total


def near_value_pairs(tile: Tile) -> Float[Tensor, "rows near"]:
    """The term above where at least one branch is local, for the queries and the near keys of a tile."""
    pairs = combinations_with_replacement(range(len(tile.weights)), 2)
    return reduce(
        add,
        (
            _pairs(tile.near_weights, tile.directions, tile.factors, tile.moved, *pair)
            for pair in pairs
            if pair != (GLOBAL, GLOBAL)
        ),
    )


def _pairs(
    weights: Float[Tensor, "branch heads rows keys"],
    directions: Float[Tensor, "rows heads heads"],
    factors: Float[Tensor, "matrix rows part"],
    moved: Float[Tensor, "_ heads keys part"],
    left: int,
    right: int,
) -> Float[Tensor, "rows keys"]:
    """Pairs of a head of branch `left` with a head of branch `right`, in both orders."""
    (a, b), (c, d) = matrices_of(left), matrices_of(right)
    same = left == right
    kinds = ((a, a), (a, b), (b, b)) if same else ((a, c), (a, d), (b, c), (b, d))
    scales = [factors[s] * factors[t] for s, t in kinds]
    total = torch.zeros_like(weights[left, 0])
    heads = len(directions[0])
    for head, other in ((m, n) for m in range(heads) for n in range(m + 1 if same else heads)):
        pair = torch.zeros_like(total)
        for scale, (s, t) in zip(scales, kinds, strict=True):
            product = moved[s, head] * moved[t, other]
            if same and s != t:
                product.addcmul_(moved[t, head], moved[s, other])
            pair.addmm_(scale, product.T)
        pair *= directions[:, head, other].unsqueeze(-1)
        pair *= weights[left, head]
        total.addcmul_(pair, weights[right, other], value=1.0 if same and head == other else 2.0)
    return total

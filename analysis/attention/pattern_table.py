"""Every pattern of every head of a traced layer, as numbers by name and as a table."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.attention.maps import AttentionRows, MaskedMap, attention_rows, layer_maps
from analysis.attention.patterns import (
    head_redundancy,
    pairwise_distances,
    relative_row_entropy,
    row_diagonal_share,
    row_distance,
    row_entropy,
    row_keys_for_mass,
    row_sparsity,
)
from analysis.attention.verticality import row_verticality
from analysis.chunking import chunks
from analysis.view import TraceView
from gmsa_models.trace import AttentionTrace, LayerTrace

__all__ = ["INDEX", "PATTERNS", "Known", "Pattern", "branch_patterns", "pattern_table"]

# Frames on either side that count as the diagonal.
WITHIN = 2
MASS = 0.9
# Maps judged together, in bytes: a dozen arrays as large, some of twice the precision, come and go meanwhile.
HEADS_BYTES = 2**25


@dataclass(frozen=True)
class _Judged:
    """Heads that share a mask, with every pattern but redundancy."""

    part: MaskedMap
    patterns: dict[str, Float[Tensor, "batch heads"]]


# What one call of `branch_patterns` found out, for the next branch of the same layer.
Known = list[_Judged]


@dataclass(frozen=True)
class Pattern:
    """What a column of the table is.

    Attributes:
        meaning: in a few words.
        units: of its values.
    """

    meaning: str
    units: str


PATTERNS: dict[str, Pattern] = {
    "attention_entropy": Pattern("entropy of a query's attention, mean over queries", "nat"),
    "attention_relative_entropy": Pattern("entropy / ln(keys in reach), mean over queries", "1 = uniform"),
    "attention_distance": Pattern("mean distance from query to key", "s"),
    "uniform_distance": Pattern("the same for uniform attention over the same mask", "s"),
    "diagonal_share": Pattern(f"attention at most {WITHIN} frames away", "share of 1"),
    "uniform_diagonal_share": Pattern("the same for uniform attention over the same mask", "share of 1"),
    "hoyer_sparsity": Pattern("Hoyer sparsity of a query's attention, mean over queries", "0 = uniform, 1 = one key"),
    "keys_for_mass": Pattern(f"keys that hold {MASS:.0%} of a query's attention, mean over queries", "share of keys"),
    "verticality": Pattern("share of the map that one appeal a key explains", "1 = all rows equal"),
    "verticality_null": Pattern("mean verticality with rows shuffled", "1 = all rows equal"),
    "verticality_null_deviation": Pattern("standard deviation of verticality with rows shuffled", "1"),
    "verticality_adjusted": Pattern("(verticality - null) / (1 - null)", "0 = chance, 1 = all rows equal"),
    "verticality_p": Pattern("chance of a verticality this large with rows shuffled", "1"),
    "redundancy": Pattern("1 - Jensen-Shannon distance to the nearest other head", "1 = another head does the same"),
}


def branch_patterns(
    layer: LayerTrace,
    branch: str,
    valid: Bool[Tensor, "batch frames"],
    frame_seconds: float = 1.0,
    known: Known | None = None,
) -> dict[str, Float[Tensor, "batch heads"]]:
    """Every pattern of the heads of one branch, each judged within its own mask.

    Args:
        layer: the traced layer.
        branch: a branch whose maps it has.
        valid: True where a frame is real.
        frame_seconds: seconds from one frame to the next.
        known: what earlier calls for other branches of this layer found, added to by this one: heads that stand in two
            branches (ShareAtt's) are judged once.

    Returns:
        Key of `PATTERNS` -> one value a clip and head of the branch; NaN where it is not defined.

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.
    """
    known, parts = [] if known is None else known, layer_maps(layer)[branch]
    rows = [attention_rows(part.weights, part.neighbourhood, valid) for part in parts]
    judged = [_judged(*each, frame_seconds, known) for each in zip(parts, rows, strict=True)]
    joined = {name: torch.cat([each[name] for each in judged], -1) for name in judged[0]}
    # Heads with different masks are compared too.
    shares = torch.cat([each.shares for each in rows], -3) if len(rows) > 1 else rows[0].shares
    everything = AttentionRows(shares, rows[0].support)
    return joined | {"redundancy": head_redundancy(pairwise_distances(everything))}


def pattern_table(trace: AttentionTrace | TraceView, *, layer: int = 0, frame_seconds: float = 1.0) -> pd.DataFrame:
    """Every pattern of every head: a row a clip, modality, branch and head.

    Args:
        trace: of one clip or a batch; a view does as well.
        layer: which layer, from 0.
        frame_seconds: seconds from one frame to the next.

    Returns:
        Columns clip (row of the batch), modality, branch, head (as it stands among all heads of the layer), and the
        keys of `PATTERNS`. No rows for the control.

    Raises:
        IndexError: a layer that the model lacks.
        ArgumentError: weights that are no map; see `attention_rows`.
    """
    tables = []
    for modality in trace.layers:
        traced, known = trace.layer(modality, layer), Known()
        for branch, parts in layer_maps(traced).items():
            values = branch_patterns(traced, branch, trace.valid, frame_seconds, known)
            clips, heads = values["verticality"].shape
            names = {"clip": range(clips), "modality": [modality], "branch": [branch]}
            heads_here = range(parts[0].first_head, parts[0].first_head + heads)
            index = pd.MultiIndex.from_product([*names.values(), heads_here], names=[*names, "head"])
            columns = {name: values[name].flatten().double().cpu().numpy() for name in PATTERNS}
            tables.append(pd.DataFrame(columns, index=index).reset_index())
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*INDEX, *PATTERNS])


INDEX = ("clip", "modality", "branch", "head")


def _judged(
    part: MaskedMap, rows: AttentionRows, frame_seconds: float, known: Known
) -> dict[str, Float[Tensor, "batch heads"]]:
    """Patterns of a part of a branch, from `known` if the same heads with the same weights and mask are there."""
    for each in known:
        same = each.part.first_head == part.first_head and each.part.neighbourhood is part.neighbourhood
        if same and torch.equal(each.part.weights, part.weights):
            return each.patterns
    batch, heads, query, key = rows.shares.shape
    some = chunks(heads, HEADS_BYTES, batch * query * key * rows.shares.element_size())
    done = [_patterns(AttentionRows(rows.shares[:, few], rows.support), frame_seconds) for few in some]
    known.append(_Judged(part, {name: torch.cat([each[name] for each in done], -1) for name in done[0]}))
    return known[-1].patterns


def _patterns(rows: AttentionRows, frame_seconds: float) -> dict[str, Float[Tensor, "batch heads"]]:
    """All but redundancy, which needs all heads."""
    entropy = row_entropy(rows)
    uniform = AttentionRows(rows.uniform, rows.support)  # the same for every head of one mask
    lines = row_verticality(rows)
    of_queries = {
        "attention_entropy": entropy,
        "attention_relative_entropy": relative_row_entropy(rows, entropy),
        "attention_distance": row_distance(rows, frame_seconds),
        "uniform_distance": row_distance(uniform, frame_seconds),
        "diagonal_share": row_diagonal_share(rows, WITHIN),
        "uniform_diagonal_share": row_diagonal_share(uniform, WITHIN),
        "hoyer_sparsity": row_sparsity(rows),
        "keys_for_mass": row_keys_for_mass(rows, MASS),
    }
    of_heads = {name: values.nanmean(-1) for name, values in of_queries.items()}
    return {name: values.expand_as(of_heads["attention_entropy"]) for name, values in of_heads.items()} | {
        "verticality": lines.value,
        "verticality_null": lines.null_mean,
        "verticality_null_deviation": lines.null_deviation,
        "verticality_adjusted": lines.adjusted,
        "verticality_p": lines.p_value,
    }

"""Frobenius norms of frame Jacobians in closed form: which block takes which form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.sensitivity.closed_form import gate_att, gate_op, gate_op_state, plain
from analysis.sensitivity.closed_form.constants import gate_op_tables, plain_tables
from gmsa_models.attention import (
    AttentionBlock,
    Baseline,
    GateAtt,
    GatedOutputs,
    GateOp,
    GateOpScales,
    Local,
    ShareAtt,
    attention_weights,
)
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import standard_contexts
from gmsa_models.hooks import is_plain_linear

__all__ = ["CLOSED_FORMS", "closed_form_norms", "has_closed_form"]

Frames = Float[Tensor, "frames dim"]
Norms = Float[Tensor, "query key"]
Heads = Float[Tensor, "heads frames head_dim"]


def has_closed_form(block: AttentionBlock) -> bool:
    """Whether the form of a block's class holds for it: its layers compute what their weights say."""
    layers = [
        layer
        for child in block.children()
        for layer in (child.children() if isinstance(child, nn.ModuleDict) else [child])
    ]
    return type(block) in CLOSED_FORMS and all(map(is_plain_linear, layers))


def closed_form_norms(block: AttentionBlock, inputs: Frames, max_bytes: int) -> Norms:
    """|dY_i / dX_j|, Frobenius, for every pair of frames, exact up to rounding and without making a Jacobian.

    Args:
        block: Baseline, ShareAtt, GateAtt, GateOp, GateOpScales or Local.
        inputs: X of one clip, valid frames only.
        max_bytes: about the most that intermediate results may take, beside a few maps of frames x frames x heads.

    Returns:
        (query, key), in the type of `inputs`, half precision widened to float32.

    Raises:
        ArgumentError: another block, or one that `has_closed_form` is not true of.
    """
    form = CLOSED_FORMS.get(type(block))
    if form is None:
        known = ", ".join(each.__name__ for each in CLOSED_FORMS)
        raise ArgumentError(f"{type(block).__name__} has no closed form; those of {known} are known")
    if not has_closed_form(block):
        raise ArgumentError(
            f"a layer of this {type(block).__name__} is wrapped or has a forward hook or method of its own, and the "
            'closed form takes its weights alone; method "autograd" is exact'
        )
    with standard_contexts():
        return form(block, inputs, max_bytes).clamp_(min=0.0).sqrt_()


def _baseline(block: AttentionBlock, inputs: Frames, max_bytes: int) -> Norms:
    query, key, value = _project(block, inputs)
    return plain.squared_norms(_weights(query, key, None), query, key, value, plain_tables(block), max_bytes)


def _local(block: AttentionBlock, inputs: Frames, max_bytes: int) -> Norms:
    query, key, value = _project(block, inputs)
    weights = _weights(query, key, block.mask(inputs.unsqueeze(0)))
    return plain.squared_norms(weights, query, key, value, plain_tables(block), max_bytes)


def _share_att(block: AttentionBlock, inputs: Frames, max_bytes: int) -> Norms:
    query, key, value = _project(block, inputs)
    half = block.heads // 2
    mask = block.mask(inputs.unsqueeze(0))
    weights = torch.cat([_weights(query[:half], key[:half], None), _weights(query[half:], key[half:], mask)])
    return plain.squared_norms(weights, query, key, value, plain_tables(block), max_bytes)


def _gate_att(block: GateAtt, inputs: Frames, max_bytes: int) -> Norms:
    query, key, value = _project(block, inputs)
    frames = len(inputs)
    maps = gate_att.gated_maps(
        _weights(query, key, None),
        _weights(query, key, block.mask(inputs.unsqueeze(0))),
        block.gate_global[:frames, :frames].to(query.dtype),
        block.gate_local[:frames, :frames].to(query.dtype),
    )
    return gate_att.squared_norms(maps, query, key, value, plain_tables(block), max_bytes)


def _gated_outputs(block: GatedOutputs, inputs: Frames, max_bytes: int) -> Norms:
    query, key, value = _project(block, inputs)
    tables = gate_op_tables(block)
    masks = [None, *(block.mask(inputs.unsqueeze(0), branch) for branch in block.local_branches)]
    weights = torch.stack([_weights(query, key, mask) for mask in masks])
    clip = gate_op_state.gate_op_clip(weights, query, key, value, tables)
    return gate_op.squared_norms(clip, tables, max_bytes)


def _project(block: AttentionBlock, inputs: Frames) -> tuple[Heads, Heads, Heads]:
    wide = torch.promote_types(inputs.dtype, torch.float32)
    query, key, value = (each.squeeze(0).to(wide) for each in block.project(inputs.unsqueeze(0)))
    return query, key, value


def _weights(query: Heads, key: Heads, mask: Tensor | None) -> Float[Tensor, "heads query key"]:
    return attention_weights(query.unsqueeze(0), key.unsqueeze(0), mask, None).squeeze(0)


# Each takes blocks of its own class.
CLOSED_FORMS: dict[type[AttentionBlock], Callable[[Any, Frames, int], Norms]] = {
    Baseline: _baseline,
    ShareAtt: _share_att,
    GateAtt: _gate_att,
    GateOp: _gated_outputs,
    GateOpScales: _gated_outputs,
    Local: _local,
}

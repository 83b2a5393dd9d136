"""Attention blocks: the paper's four and two that follow them, the contract they keep, and what they are made of."""

from gmsa_models.attention.block import AttentionBlock, BlockTrace, Contexts, Gates
from gmsa_models.attention.blocks import (
    ATTENTION,
    STACKS,
    Baseline,
    GateAtt,
    GatedOutputs,
    GateOp,
    GateOpScales,
    Local,
    ShareAtt,
)
from gmsa_models.attention.functions import (
    Frames,
    Heads,
    Valid,
    attention_weights,
    gate_linear,
    global_attention,
    join_heads,
    near_zero,
    xavier_linear,
)
from gmsa_models.attention.stages import QUANTITIES, WHOLE, CleanPass

__all__ = [
    "ATTENTION",
    "QUANTITIES",
    "STACKS",
    "WHOLE",
    "AttentionBlock",
    "Baseline",
    "BlockTrace",
    "CleanPass",
    "Contexts",
    "Frames",
    "GateAtt",
    "GateOp",
    "GateOpScales",
    "GatedOutputs",
    "Gates",
    "Heads",
    "Local",
    "ShareAtt",
    "Valid",
    "attention_weights",
    "gate_linear",
    "global_attention",
    "join_heads",
    "near_zero",
    "xavier_linear",
]

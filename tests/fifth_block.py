"""HeadGate: a fifth attention block, known to no fast path."""

from __future__ import annotations

import torch
from torch import nn

from gmsa_models.attention import GateAtt, attention_weights, join_heads


class HeadGate(GateAtt):
    """GateAtt whose gate is one number a head: R_g = sigmoid(g_m), R_l = 1 - R_g."""

    def __init__(self, dim, heads, neighbourhood, max_frames, bias=True):
        super().__init__(dim, heads, neighbourhood, max_frames, bias)
        del self.gate_global, self.gate_local
        self.gate = nn.Parameter(torch.linspace(-1.0, 1.0, heads))

    def forward(self, inputs, valid=None):
        query, key, value = self.project(inputs)
        rows = (attention_weights(query, key, mask, valid) for mask in (None, self.mask(inputs)))
        weights = dict(zip(self.branches, rows, strict=True))
        return self.output(join_heads(self.combine(weights) @ value))

    def map_gates(self, global_rows, local_rows):
        gate = self.gate.sigmoid().to(global_rows.dtype)[:, None, None].expand_as(global_rows)
        return torch.stack([gate, 1 - gate])

"""A GMSA classifier as somebody else would write it: from the paper's equations, with names and layouts of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedAttention(nn.Module):
    """Output gates (equations 6 to 10): a global and a local branch, blended feature by feature."""

    def __init__(self, width: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.qkv = nn.Linear(width, 3 * width)
        self.out_global, self.out_local = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.gate_global, self.gate_local = nn.Linear(width, width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = self.qkv(x).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / (width // self.heads) ** 0.5
        steps = torch.arange(time)
        near = (steps[:, None] - steps).abs() <= self.reach / 2
        contexts = []
        for logits in (scores, scores.masked_fill(~near, float("-inf"))):
            weights = logits.softmax(-1)
            contexts.append(torch.einsum("bhij,bhjd->bihd", weights, v).reshape(batch, time, width))
        everywhere, nearby = contexts
        gates = torch.stack([self.gate_global(everywhere), self.gate_local(nearby)]).softmax(0)
        return gates[0] * self.out_global(everywhere) + gates[1] * self.out_local(nearby) + self.bias


class Encoder(nn.Module):
    """Gated attention and a feed-forward, each with a residual and a norm behind it."""

    def __init__(self, width: int, heads: int, reach: int) -> None:
        super().__init__()
        self.attend = GatedAttention(width, heads, reach)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.mlp(x))


class Classifier(nn.Module):
    """Frames to logits: encoders, then the mean over time.

    Args:
        width: of a frame.
        classes: of the output.
        heads: of each layer.
        reach: the local branch attends to frames up to half as many steps away.
        depth: encoders.
    """

    def __init__(self, width: int, classes: int, heads: int = 2, reach: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(Encoder(width, heads, reach) for _ in range(depth))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        for encoder in self.encoders:
            x = encoder(x)
        return self.head(x.mean(1))

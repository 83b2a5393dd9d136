"""A GMSA classifier as a user wrote it, from the paper's equations alone: names, packing and order are its own.

Each layer is norm first (a norm behind the last) or norm behind each residual; the feed-forward has a GELU. What the
blocks of the package have no counterpart of (biases that differ, another activation) is an argument, to be refused.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def near(frames: int, size: int) -> Tensor:
    """TP_n."""
    steps = torch.arange(frames)
    return (steps[:, None] - steps[None]).abs() <= size // 2


class SelfAttention(nn.Module):
    """Equations 1 to 9, with raw parameters or packed ones."""

    def __init__(self, kind: str, width: int, heads: int, reach: int, frames: int, packed: bool) -> None:
        super().__init__()
        self.kind, self.heads, self.reach, self.packed = kind, heads, reach, packed
        if packed:
            self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * 0.3)
            self.in_proj_bias = nn.Parameter(torch.randn(3 * width) * 0.3)
        else:
            self.W_q, self.W_k, self.W_v = (nn.Linear(width, width) for _ in "qkv")
        if kind == "gate-op":
            self.W_og, self.W_ol = (nn.Linear(width, width, bias=False) for _ in "gl")
            self.W_g_g, self.W_g_l = (nn.Linear(width, width, bias=False) for _ in "gl")
            self.b = nn.Parameter(torch.randn(width))
        else:
            self.out_proj = nn.Linear(width, width)
        if kind == "gate-att":
            self.W_g_g, self.W_g_l = (nn.Parameter(torch.randn(frames, frames)) for _ in "gl")

    def project(self, x: Tensor) -> list[Tensor]:
        if self.packed:
            parts = (x @ self.in_proj_weight.T + self.in_proj_bias).chunk(3, -1)
        else:
            parts = [linear(x) for linear in (self.W_q, self.W_k, self.W_v)]
        return [part.reshape(*x.shape[:2], self.heads, -1).permute(0, 2, 1, 3) for part in parts]

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        hidden = torch.where(near(x.shape[1], self.reach), 0.0, -math.inf)
        a_g, a_l = scores.softmax(-1), (scores + hidden).softmax(-1)
        join = lambda o: o.permute(0, 2, 1, 3).reshape(x.shape)  # noqa: E731
        match self.kind:
            case "baseline":
                return self.out_proj(join(a_g @ v))
            case "share-att":
                half = self.heads // 2
                return self.out_proj(join(torch.cat([a_g[:, :half], a_l[:, half:]], 1) @ v))
            case "gate-att":
                t = x.shape[1]
                r = torch.stack([a_g @ self.W_g_g[:t, :t], a_l @ self.W_g_l[:t, :t]]).softmax(0)
                return self.out_proj(join((r[0] * a_g + r[1] * a_l) @ v))
        o_g, o_l = join(a_g @ v), join(a_l @ v)
        r = torch.stack([self.W_g_g(o_g), self.W_g_l(o_l)]).softmax(0)
        return r[0] * self.W_og(o_g) + r[1] * self.W_ol(o_l) + self.b


class Block(nn.Module):
    def __init__(self, width: int, norm_first: bool, activation: nn.Module, **attention: object) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.gmsa = SelfAttention(width=width, **attention)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), activation, nn.Linear(3 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.gmsa(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))
        x = self.ln_1(x + self.gmsa(x))
        return self.ln_2(x + self.mlp(x))


class Tower(nn.Module):
    def __init__(self, inputs: int, width: int, depth: int, norm_first: bool, **block: object) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width) if inputs != width else nn.Identity()
        self.blocks = nn.ModuleList(Block(width, norm_first, **block) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width) if norm_first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x)


class OwnGmsa(nn.Module):
    """Frames of an `rgb` and a `sound` stream to logits.

    Args:
        kind: "baseline", "share-att", "gate-att" or "gate-op".
        sizes: stream -> width of its frames, width of its tower.
        packed: Q, K and V are one matrix.
        norm_first: see the module.
        activation: of the feed-forward.
    """

    def __init__(
        self,
        kind: str = "gate-op",
        sizes: dict[str, tuple[int, int]] | None = None,
        packed: bool = False,
        norm_first: bool = True,
        activation: nn.Module | None = None,
        heads: int = 2,
        reach: int = 4,
        frames: int = 11,
        classes: int = 5,
        depth: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.sizes = sizes or {"rgb": (14, 12), "sound": (10, 8)}
        options = {"kind": kind, "heads": heads, "reach": reach, "frames": frames, "packed": packed}
        self.towers = nn.ModuleDict(
            {
                name: Tower(*size, depth, norm_first, activation=activation or nn.GELU(), **options)
                for name, size in self.sizes.items()
            }
        )
        self.head = nn.Linear(sum(width for _, width in self.sizes.values()), classes)
        with torch.no_grad():  # biases of 0 and norms of 1 would hide what is mixed up
            for each in self.parameters():
                each.add_(0.3 * torch.randn(each.shape))
        self.eval()

    def forward(self, **streams: Tensor) -> Tensor:
        return self.head(torch.cat([tower(streams[name]).mean(1) for name, tower in self.towers.items()], -1))

    def example(self, clips: int = 3, frames: int = 9) -> dict[str, Tensor]:
        """Random frames of each stream."""
        generator = torch.Generator().manual_seed(1)
        return {
            name: torch.randn(clips, frames, inputs, generator=generator) for name, (inputs, _) in self.sizes.items()
        }

"""Profiles of one branch of a traced clip, head by head."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.profiles import head_profiles
from analysis.view import ClipView


def branch_profiles(view: ClipView, modality: str, branch: str) -> Float[Tensor, "heads frames"]:
    """Profiles of a branch's heads, each over the mask of its own branch."""
    layer = view.layers[modality]
    masks: dict[str, Bool[Tensor, "query key"] | None] = {
        "global": None,
        "combined": None,
        "local": layer.neighbourhood,
    }
    weights = {name: layer.weights[name][0] for name in view.branches}
    if branch == "combined" and len(weights["local"]) < view.heads:
        # ShareAtt: the combined heads are the global ones and the local ones.
        return torch.cat([head_profiles(weights[name], masks[name]) for name in ("global", "local")])
    return head_profiles(weights[branch], masks[branch])

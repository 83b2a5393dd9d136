"""Profiles of one branch of a traced clip, head by head."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.attention.maps import layer_maps
from analysis.attention.profiles import head_profiles
from analysis.view import ClipView


def branch_profiles(view: ClipView, modality: str, branch: str) -> Float[Tensor, "heads frames"]:
    """Profiles of a branch's heads, each over its own mask."""
    parts = layer_maps(view.layers[modality])[branch]
    return torch.cat([head_profiles(part.weights[0], part.neighbourhood) for part in parts])

"""trace_paths: which frames reach a class's logit, directly or through which branch and whose queries.

In the last layer a query's frame is h_i + Y_i, and with maps and gates as they are Y_i is a sum over key frames:

    Y_i = b + sum over branches, heads and keys j of M[i, j] V_j W_O.

What follows is not linear. Each frame's share of the logit, less that of a reference frame, is the product of the frame
less the reference with the mean gradient along the line between them (integrated gradients), which is linear in the
frame. So the shares of the terms add up to the logit: exactly in the keys, within the error of the sum over the line.
That maps, gates and values follow from frames themselves is not in it: for that, knock out (`effect_map`).
"""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.explanations.explanation import class_position
from analysis.explanations.stream import Stream, check_layers
from analysis.gmsa_view import attention_block
from analysis.interventions.running import EditRun
from gmsa_models.attention import AttentionBlock, Contexts
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import standard_contexts
from gmsa_models.hooks import plain_weight
from gmsa_models.trace import LayerTrace

__all__ = ["trace_paths"]

Frames = Float[Tensor, "frames dim"]


def trace_paths(model: GMSAClassifier, clip: Clip, target: SupportsIndex | str, *, steps: int = 64) -> xr.Dataset:
    """The logit of a class as a sum over paths from key frames.

    Args:
        model: with attention; paths are those of its last layer.
        clip: cut to the model's longest.
        target: the class, by its position among the model's outputs or by its name.
        steps: of the sum over the line from the reference, the mean over frames of the layer's input.

    Returns:
        In logits: `path` (modality, branch, query, key), what a key adds through a query's attention; of it `own`
        (modality, branch, frame), through its own query, and `others` (modality, branch, frame), through those of other
        frames; `direct` (modality, frame), past the attention; `constant`: the reference and all biases; `logit`;
        `error`: the sum of all less `logit`.

    Raises:
        ArgumentError: the control, which has no attention.

    Source:
        Sundararajan et al., "Axiomatic attribution for deep networks", 2017.
    """
    run, position = EditRun(model, [clip]), class_position(model, target)
    last = len(next(iter(model.encoders.values())).layers) - 1
    blocks = {stream: attention_block(run.model, stream, last) for stream in model.encoders}
    with standard_contexts():
        logit = float(run.clean.logits[0, position])
        bias = run.model.classifier.bias
        constant = 0.0 if bias is None else float(bias[position])
        parts, branches = [], list(dict.fromkeys(branch for block in blocks.values() for branch in block.branches))
        for stream, block in blocks.items():
            paths, direct, rest = _stream_paths(run, stream, block, last, position, steps)
            constant += rest
            parts.append((np.stack([paths[branch] for branch in branches]), direct))
    path, direct = (np.stack([part[place] for part in parts]) for place in range(2))
    own = np.diagonal(path, axis1=2, axis2=3)
    seconds = np.asarray(run.clips[0].seconds, np.float64)
    whole = float(path.sum() + direct.sum() + constant)
    return xr.Dataset(
        {
            "path": (("modality", "branch", "query", "key"), path),
            "own": (("modality", "branch", "frame"), own),
            "others": (("modality", "branch", "frame"), path.sum(2) - own),
            "direct": (("modality", "frame"), direct),
            "constant": ((), constant),
            "logit": ((), logit),
            "error": ((), whole - logit),
        },
        {
            "modality": list(model.encoders),
            "branch": branches,
            "query": seconds,
            "key": seconds,
            "frame": seconds,
        },
        {"clip": clip.id, "target": position, "layer": last},
    )


def _stream_paths(
    run: EditRun, stream: str, block: AttentionBlock, layer: int, position: int, steps: int
) -> tuple[dict[str, Float[np.ndarray, "query key"]], Float[np.ndarray, " frames"], float]:
    """Paths by branch, the direct ones, and what is left: the reference's share and the block's bias."""
    clean, hidden = run.clean_pass(stream, layer), run.hidden(stream, layer)[0]
    traced = run.clean.layer(stream, layer)
    output, count = traced.recorded("output")[0], len(hidden)
    part = Stream(run.model, stream, position)
    check_layers(part.encoder)
    if (projection := getattr(block, "output", None)) is not None:
        plain_weight(projection, "an attention block's output")
    reference = hidden.mean(0, keepdim=True).expand_as(hidden)
    slopes = _mean_slopes(part, reference, hidden + output, steps) / count
    by_context = _context_slopes(block, clean.contexts, traced, slopes)
    maps = block.context_maps(traced)
    values = {branch: clean.projected[2][:, block.heads_of(branch)] for branch in block.branches}
    paths = {
        branch: torch.einsum("bhqk,bhkd,bhqd->qk", maps[branch], values[branch], by_context[branch])
        for branch in block.branches
    }
    direct = ((hidden - reference) * slopes).sum(1)
    bias = block.bias()
    rest = _shares(part, reference).mean() + (0.0 if bias is None else (slopes @ bias).sum())
    return {branch: _numbers(each) for branch, each in paths.items()}, _numbers(direct), float(rest)


def _shares(part: Stream, frames: Frames) -> Float[Tensor, " frames"]:
    """Each frame's share of the sum of logits, from h + Y."""
    encoded = part.encoder.layers[-1].finish(frames[None], torch.zeros_like(frames)[None])
    return part.encoder.norm(encoded)[0] @ part.weights


def _mean_slopes(part: Stream, reference: Frames, frames: Frames, steps: int) -> Frames:
    """Gradient of each frame's share, mean over the line from the reference to the frame."""
    total = torch.zeros_like(frames)
    for step in range(steps):
        at = (reference + (step + 0.5) / steps * (frames - reference)).detach().requires_grad_()
        with torch.enable_grad():
            total += torch.autograd.grad(_shares(part, at).sum(), at)[0]
    return total / steps


def _context_slopes(block: AttentionBlock, contexts: Contexts, traced: LayerTrace, slopes: Frames) -> Contexts:
    """What a change of each context, with gates as they are, is multiplied by."""
    gates = {name: gate.detach() for name, gate in traced.gates.items()} if block.gated == "outputs" else None
    with torch.enable_grad():
        leaves = {branch: each.detach().clone().requires_grad_() for branch, each in contexts.items()}
        whole = (block.output_from(leaves, gates)[0] * slopes).sum()
        gradients = torch.autograd.grad(whole, list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True))


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()

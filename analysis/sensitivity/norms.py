"""Sensitivity: how strongly each output frame answers to each input frame, and how local that is (equation 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.sensitivity.autograd import autograd_norms, sampled_norms
from analysis.sensitivity.closed_form.forms import closed_form_norms, has_closed_form
from gmsa_models.attention import AttentionBlock
from gmsa_models.classifier import Encoder, EncoderLayer, GMSAClassifier, check_encoder
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating
from gmsa_models.hooks import is_changed
from gmsa_models.masks import Neighbourhood, neighbourhood_mask

__all__ = [
    "LagProfile",
    "block_gradient_norms",
    "frame_gradient_norms",
    "lag_profile",
    "local_sensitivity",
    "pad_norms",
]

Frames = Float[Tensor, "frames dim"]
Norms = Float[Tensor, "*batch query key"]

# About the most that intermediate results take, in bytes, beside the maps of a clip and the tables of a block.
MAX_BYTES = 2**28


@dataclass(frozen=True)
class _Part:
    """What is differentiated: the layer's frames before, and how those after follow from them."""

    layer: EncoderLayer
    inputs: Frames
    function: Callable[[Frames], Frames]


def frame_gradient_norms(
    model: GMSAClassifier,
    clip: Clip | Batch,
    modality: str,
    *,
    at: str = "attention",
    norm: str = "frobenius",
    method: str | None = None,
    layer: int = 0,
    probes: int = 32,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    return_standard_error: bool = False,
) -> Norms | tuple[Norms, Norms]:
    """G[i, j], the norm of the Jacobian of output frame i with respect to input frame j, a D x D matrix.

    In a model of several layers both frames are those of one layer: what came in to it, and what it made of that.

    Args:
        model: left as it is, and taken without dropout whatever its mode; one of half precision in float32.
        clip: one clip, cut to the model's longest; or a batch, padded.
        modality: which stream.
        at: "attention": Y the attention block's output before the residual, X its input, after the norm if that comes
            first (equation 10). "encoder": the layer's output and its input.
        norm: "frobenius": root of the sum of squares over the D x D entries.
        method: "closed-form": exact, only at "attention", without a Jacobian. "autograd": exact, D products a frame.
            "sampled": `probes` products a frame. None: closed-form where there is one, else autograd.
        layer: which encoder layer; negative counts from the last.
        probes: of "sampled", at least 2. Its relative error falls as 1 / sqrt(probes).
        seed: of "sampled".
        max_bytes: about the most that intermediate results may take.
        return_standard_error: return also the standard errors, 0 where the method is exact; `sampled_ends` makes
            intervals of them.

    Returns:
        (query, key) for a clip, (batch, query, key) for a batch, in the type and on the device of the model, half
        precision widened to float32. Rows and columns of padded frames are NaN. A model without attention (the
        control) has no Y to differentiate: at "attention" its G is 0, at "encoder" 0 off the diagonal. With
        `return_standard_error` a pair: norms, standard errors.

    Raises:
        ArgumentError: an unknown `at`, `norm`, `method` or modality, a layer that the model lacks, the closed form at
            "encoder"; fewer than 2 probes; `max_bytes` below 1; a forward hook on the encoder, a layer or an attention
            block that changes what the encoder gives.

    Source:
        Sahu and Goyal, ICASSP 2022, G of equation 10; closed forms in `analysis.sensitivity.closed_form`.
    """
    _check(model, modality, at, norm, method, layer)
    compute = METHODS[method] if method else _exact if at == "attention" else _autograd
    options = {"probes": probes, "seed": seed, "max_bytes": max_bytes}
    results = []
    with evaluating(model.encoders[modality], widen=True) as encoder:
        batch = clip if isinstance(clip, Batch) else Batch.from_clips([clip], max_frames=model.config.max_frames)
        spans = model.spans_of(batch)
        if is_changed(model) and batch.features.keys() >= model.encoders.keys():
            with evaluating(model, widen=True) as whole:
                whole.trace(batch.to(*_type_of(whole)))  # which refuses what changes the pass
        for row, (features, valid) in enumerate(zip(batch.features[modality], batch.valid, strict=True)):
            own = encoder if spans is None else encoder.bound_to(spans[row])
            check_encoder(own, features[valid])
            part = _part(own, features[valid], at, layer)
            results.append([pad_norms(each, valid) for each in compute(part, **options)])
    norms, errors = (torch.stack(each) for each in zip(*results, strict=True))
    if isinstance(clip, Clip):
        norms, errors = norms[0], errors[0]
    return (norms, errors) if return_standard_error else norms


def block_gradient_norms(
    block: AttentionBlock, inputs: Float[Tensor, "frames dim"], max_bytes: int = MAX_BYTES
) -> Float[Tensor, "query key"]:
    """G of one attention block for one clip, exact: in closed form where its kind has one, else by autograd.

    Args:
        block: any attention block, in evaluation mode.
        inputs: X, its input; valid frames only.
        max_bytes: about the most that intermediate results may take.

    Source:
        Equation 10.
    """
    if has_closed_form(block):
        return closed_form_norms(block, inputs, max_bytes)
    return autograd_norms(lambda frames: block.trace(frames.unsqueeze(0), None).output[0], inputs, max_bytes)


def local_sensitivity(norms: Norms, neighbourhood: Neighbourhood | Bool[Tensor, "*_"]) -> Float[Tensor, "*batch query"]:
    """S_i: the mean gradient norm inside N_i, as a share of the means inside and outside together.

    0.5: output frame i answers as strongly to a frame outside its neighbourhood as to one inside. 1: to none outside.

    Args:
        norms: G >= 0, NaN where a frame is padding.
        neighbourhood: N, as a pattern or as a mask, True = inside, of all clips or of each. It need not be the model's:
            with one N for all, models can be compared, those without a local branch among them.

    Returns:
        In [0, 1]. NaN where the comparison is not defined: for padded frames, where N_i holds every frame or none, and
        where all of a frame's gradients are 0.

    Raises:
        ArgumentError: a mask of another size, or norms that are not square.

    Source:
        Equation 10.
    """
    *_, query, key = norms.shape
    if query != key:
        raise ArgumentError(f"norms have {query} query and {key} key frames; expected the same frames on both")
    if not isinstance(neighbourhood, Tensor):
        neighbourhood = neighbourhood_mask(neighbourhood, query, norms.device)
    if neighbourhood.shape not in ((query, key), norms.shape):
        raise ArgumentError(f"neighbourhood has shape {tuple(neighbourhood.shape)}; expected {(query, key)}")
    inside = neighbourhood.to(norms.device)
    local, distant = (norms.masked_fill(~mask, torch.nan).nanmean(-1) for mask in (inside, ~inside))
    return local / (local + distant)


@dataclass(frozen=True)
class LagProfile:
    """A map of query frames by key frames, as a function of how far apart the two are.

    Attributes:
        seconds: |i - j| in seconds, from 0 to the clip's length less one frame.
        mean: mean value of the pairs at that lag; NaN where no pair is left.
        mass: the share of the map's sum that lies at that lag; adds to 1. NaN for a map of zeros.
    """

    seconds: Float[Tensor, " lag"]
    mean: Float[Tensor, "*batch lag"]
    mass: Float[Tensor, "*batch lag"]


def lag_profile(matrix: Norms, frame_seconds: float = 1.0) -> LagProfile:
    """Gradient mass, or attention mass, over the distance between the frames.

    Args:
        matrix: gradient norms or attention weights, query = row; NaN where a frame is padding. Leading axes, such as
            heads, are kept.
        frame_seconds: seconds a frame.

    Returns:
        One value a lag, both directions together.

    Raises:
        ArgumentError: a matrix that is not square, or seconds that are not positive.
    """
    *batch, query, key = matrix.shape
    if query != key:
        raise ArgumentError(f"the map has {query} query and {key} key frames; expected the same frames on both")
    if not frame_seconds > 0:
        raise ArgumentError(f"frame_seconds is {frame_seconds!r}; expected a positive number")
    frames = torch.arange(query, device=matrix.device)
    lag = (frames[:, None] - frames[None, :]).abs().expand(matrix.shape).flatten(-2)
    real = ~matrix.isnan()
    zeros = matrix.new_zeros(*batch, query)
    total = zeros.scatter_add(-1, lag, matrix.nan_to_num(nan=0.0).flatten(-2))
    count = zeros.scatter_add(-1, lag, real.to(matrix.dtype).flatten(-2))
    return LagProfile(
        seconds=frames.to(matrix.dtype) * frame_seconds,
        mean=total / count,
        mass=total / total.sum(-1, keepdim=True),
    )


def _closed_form(part: _Part, max_bytes: int, **_: Any) -> tuple[Norms, Norms]:
    block = part.layer.attention
    if block is None:
        norms = part.inputs.new_zeros(len(part.inputs), len(part.inputs))
    else:
        norms = closed_form_norms(block, part.inputs, max_bytes)
    return norms, torch.zeros_like(norms)


def _exact(part: _Part, max_bytes: int, **_: Any) -> tuple[Norms, Norms]:
    block = part.layer.attention
    known = block is None or has_closed_form(block)
    return (_closed_form if known else _autograd)(part, max_bytes)


def _autograd(part: _Part, max_bytes: int, **_: Any) -> tuple[Norms, Norms]:
    norms = autograd_norms(part.function, part.inputs, max_bytes)
    return norms, torch.zeros_like(norms)


def _sampled(part: _Part, max_bytes: int, probes: int, seed: int) -> tuple[Norms, Norms]:
    return sampled_norms(part.function, part.inputs, probes, seed, max_bytes)


METHODS: Mapping[str, Callable[..., tuple[Norms, Norms]]] = {
    "closed-form": _closed_form,
    "autograd": _autograd,
    "sampled": _sampled,
}
PLACES = ("attention", "encoder")
NORMS = ("frobenius",)


def _check(model: GMSAClassifier, modality: str, at: str, norm: str, method: str | None, layer: int) -> None:
    choices = {"at": (at, PLACES), "norm": (norm, NORMS), "modality": (modality, tuple(model.encoders))}
    if method is not None:
        choices["method"] = (method, tuple(METHODS))
    for name, (value, known) in choices.items():
        if value not in known:
            raise ArgumentError(f"{name} {value!r} is unknown; known: {', '.join(known)}")
    if at == "encoder" and method == "closed-form":
        raise ArgumentError('there is no closed form at "encoder"; method "autograd" is exact, "sampled" is faster')
    if not -model.config.layers <= layer < model.config.layers:
        raise ArgumentError(f"no layer {layer}; the model has {model.config.layers}")


def _part(encoder: Encoder, features: Float[Tensor, "frames width"], at: str, layer: int) -> _Part:
    """What is differentiated, for one clip; `features` are its valid frames, so nothing in it is padding."""
    wanted = encoder.layers[layer]
    with torch.no_grad():
        hidden = features.to(next(encoder.parameters())).unsqueeze(0)
        hidden = hidden if encoder.project is None else encoder.project(hidden)
        for before in list(encoder.layers)[: layer % len(encoder.layers)]:
            hidden = before(hidden)
        if at == "attention" and wanted.attention is not None and wanted.norm_first:
            hidden = wanted.norm_attention(hidden)
    if at == "encoder":
        return _Part(wanted, hidden[0], lambda frames: _encoded(wanted, frames))
    if (block := wanted.attention) is None:
        return _Part(wanted, hidden[0], lambda frames: 0.0 * frames)
    return _Part(wanted, hidden[0], lambda frames: block.trace(frames.unsqueeze(0), None).output[0])


def _encoded(layer: EncoderLayer, frames: Frames) -> Frames:
    return layer.trace(frames.unsqueeze(0), None, False).recorded("encoded")[0]


def _type_of(model: GMSAClassifier) -> tuple[torch.device, torch.dtype]:
    weight = next(model.parameters())
    return weight.device, weight.dtype


def pad_norms(norms: Float[Tensor, "query key"], valid: Bool[Tensor, " frames"]) -> Float[Tensor, "frames frames"]:
    """Norms of the valid frames among NaN for the padded ones; of a clip without padding as they are."""
    if len(norms) == len(valid):
        return norms
    padded = norms.new_full((len(valid), len(valid)), torch.nan)
    padded[valid[:, None] & valid[None, :]] = norms.flatten()
    return padded

"""The view of a GMSA model: one traced pass over some clips, with all that such a model can say of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.attention.certificates import Certificate, certify_layer
from analysis.sensitivity.norms import block_gradient_norms, pad_norms
from analysis.sensitivity.of_view import GRADIENT_BYTES, layer_norms
from analysis.view import Capabilities, ModelNote, TraceView, type_name
from gmsa_models.attention import AttentionBlock
from gmsa_models.checkpoints.files import ZOO
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating
from gmsa_models.feeding import Inputs, check_fits
from gmsa_models.masks import Neighbourhood, OfClip
from gmsa_models.trace import AttentionTrace

__all__ = ["attention_block", "gmsa_capabilities", "model_name", "model_vocabulary", "view_clips", "view_of_trace"]


def view_clips(
    model: GMSAClassifier,
    clips: Sequence[Clip],
    *,
    chosen: Neighbourhood | None = None,
    grad: bool = False,
    max_bytes: int = GRADIENT_BYTES,
) -> TraceView:
    """Trace some clips in one pass.

    Args:
        model: on any device, in any floating-point type; left as it is. Its replica in evaluation mode is traced, in
            float32 where the model is in half precision: see `gmsa_models.evaluating`.
        clips: at least one; those longer than the model's `max_frames` are cut to their first frames.
        chosen: see `TraceView`.
        grad: keep the graph; parameters are not in it.
        max_bytes: about the most that intermediate results of gradient norms may take.

    Raises:
        UnfitClipError: a clip lacks one of the model's modalities, has frames of another width, features of another
            space, or absurdly large values.
    """
    cut = tuple(clip.cut(model.config.max_frames) for clip in clips)
    for clip in cut:
        check_fits(clip, Inputs.of(model, labels=False))
    with evaluating(model, widen=True) as replica:
        weight = next(replica.parameters())
        batch = Batch.from_clips(cut, tuple(model.config.modalities)).to(weight.device, weight.dtype)
        trace = replica.trace(batch, grad=grad)
    return view_of_trace(model, clips, trace, gmsa_capabilities(replica, max_bytes), chosen)


def gmsa_capabilities(model: GMSAClassifier, max_bytes: int = GRADIENT_BYTES) -> Capabilities:
    """What a GMSA model can say of its own passes.

    Args:
        model: in evaluation mode.
        max_bytes: about the most that intermediate results of gradient norms may take.
    """
    return Capabilities(
        gradient_norms=partial(_gradient_norms, model, max_bytes),
        contributions=partial(_contributions, model),
        certificates=partial(_certificates, model),
        values=partial(_values, model),
    )


def view_of_trace(
    model: GMSAClassifier,
    clips: Sequence[Clip],
    trace: AttentionTrace,
    capabilities: Capabilities,
    chosen: Neighbourhood | None = None,
) -> TraceView:
    """The view of a pass that was made.

    Args:
        model: that made it.
        clips: of the pass, before they were cut.
        trace: of the pass.
        capabilities: what the model can say of this pass.
        chosen: see `TraceView`.
    """
    return TraceView(
        clips=tuple(clip.cut(model.config.max_frames) for clip in clips),
        whole=tuple(clips),
        layers=trace.layers,
        valid=trace.valid,
        logits=trace.logits,
        vocabulary=model_vocabulary(model),
        model=ModelNote(model_name(model), _attributes(model)),
        own=model.config.neighbourhood,
        chosen=chosen,
        capabilities=capabilities,
    )


def attention_block(model: GMSAClassifier, modality: str, layer: int = 0) -> AttentionBlock:
    """The attention block of one layer of one modality.

    Raises:
        KeyError: a modality that the model lacks; names those it has.
        IndexError: a layer that the model lacks.
        ArgumentError: the control, which has no attention.
    """
    if modality not in model.encoders:
        raise KeyError(f"no modality {modality!r} in this model; it has {', '.join(model.encoders)}")
    layers = model.encoders[modality].layers
    if not 0 <= layer < len(layers):
        raise IndexError(f"no layer {layer} of {modality!r}; it has {len(layers)}")
    block: AttentionBlock | None = layers[layer].attention
    if block is None:
        raise ArgumentError("the control (attention 'none') has no attention block")
    return block


def model_vocabulary(model: GMSAClassifier) -> Vocabulary:
    """The model's classes; without a vocabulary output k is taken for label k."""
    if model.vocabulary is not None:
        return model.vocabulary
    classes = model.config.classes
    return Vocabulary("", tuple(range(classes)), tuple(f"class {index}" for index in range(classes)))


def model_name(model: GMSAClassifier) -> str:
    """What the model is called beside others: as it was loaded, else as its card says."""
    return str(model.origin.get("name") or model.card.get("name") or "unnamed")


def _attributes(model: GMSAClassifier) -> dict[str, str]:
    """Which checkpoint; a model of the zoo is found by its name, anywhere, and needs no path."""
    attributes = {
        "checkpoint_name": str(model.card.get("name") or model_name(model)),
        "attention_kind": model.config.attention,
        "model_config": json.dumps(model.config.to_dict()),
        "weights_type": type_name(next(model.parameters())),
    }
    if model.config.classes == 0:
        attributes["no_predictions"] = "these encoders were pretrained without labels and have no classifier"
    if "sha256" in model.origin:
        attributes["checkpoint_sha256"] = model.origin["sha256"]
    if "path" in model.origin and Path(model.origin["path"]).parent != ZOO:
        attributes["checkpoint_path"] = os.path.abspath(model.origin["path"])
    return attributes


def _gradient_norms(
    model: GMSAClassifier, max_bytes: int, view: TraceView, modality: str, layer: int
) -> Float[Tensor, "batch query key"]:
    if len(view.clips) > 1 and isinstance(model.config.neighbourhood, OfClip):
        each = [_gradient_norms(model, max_bytes, one, modality, layer) for one in view.each()]
        return torch.stack([pad_norms(norms[0], valid) for norms, valid in zip(each, view.valid, strict=True)])
    block = attention_block(_bound(model, view), modality, layer)
    return layer_norms(view, modality, layer, lambda frames: block_gradient_norms(block, frames, max_bytes))


def _bound(model: GMSAClassifier, view: TraceView) -> GMSAClassifier:
    """The model with the neighbourhoods of the view's clips."""
    if not isinstance(model.config.neighbourhood, OfClip):
        return model
    return model.bound_to(Batch.from_clips(view.clips, tuple(model.config.modalities)))


def _contributions(
    model: GMSAClassifier, view: TraceView, modality: str, layer: int
) -> dict[str, Float[Tensor, "batch frames dim"]]:
    return attention_block(model, modality, layer).contributions(view.layer(modality, layer))


def _values(
    model: GMSAClassifier, view: TraceView, modality: str, layer: int
) -> dict[str, Float[Tensor, "batch heads frames head_dim"]]:
    block, traced = attention_block(model, modality, layer), view.layer(modality, layer)
    with torch.no_grad():
        values = block.values(traced.recorded("input"))
    return {branch: values[:, traced.heads_of(branch)] for branch in traced.weights}


def _certificates(model: GMSAClassifier, view: TraceView, modality: str, layer: int) -> tuple[Certificate, ...]:
    block = attention_block(_bound(model, view), modality, layer)
    return certify_layer(block, modality, view.layer(modality, layer), view.valid)

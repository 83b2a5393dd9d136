"""LiveModel: a model's weights and one clip's frames as arrays, for a page that makes the pass itself, with edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from analysis.gmsa_view import model_name
from analysis.view import features_sha256
from gmsa_models.checkpoints.files import load
from gmsa_models.checkpoints.names import name_checkpoints
from gmsa_models.classifier import Encoder, GMSAClassifier
from gmsa_models.config import check_classifies
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating
from gmsa_models.feeding import Inputs, check_fits
from gmsa_models.masks import neighbourhood_text

__all__ = ["LIVE_BYTES", "PAIR_WEIGHTS", "LiveModel", "check_live", "check_live_checkpoints", "live_model"]

# The most that a model's weights may take, as float32.
LIVE_BYTES = 4_000_000
# Blocks whose pass the page can make.
LIVE_BLOCKS = ("baseline", "share-att", "gate-att", "gate-op", "gate-op-scales", "local-then-global", "none")
PAIR_WEIGHTS = ("attention.gate_global", "attention.gate_local")  # weights over pairs of frames


@dataclass(frozen=True)
class LiveModel:
    """All that a pass of one clip needs, from the first layer on: no edit reaches behind it that a page can make.

    Attributes:
        name: what the model is called beside others.
        sha256: of its checkpoint; "" of a model that was not loaded from one.
        features_sha256: of the clip's features.
        attention: of the model's config.
        heads: of each layer.
        layers: how many.
        norm_first: whether layers begin with their norms.
        eps: of the norms.
        neighbourhood: the model's own, as TP30; "" without one.
        frame_seconds: how long a frame is.
        frames: modality -> what the first layer is given.
        zero: modality -> what the first layer is given of a frame of zeros.
        weights: by their names in the model; without what comes before the first layer, gate weights over pairs of
            frames as far as the clip needs them.
        logits: of the pass without edits.
    """

    name: str
    sha256: str
    features_sha256: str
    attention: str
    heads: int
    layers: int
    norm_first: bool
    eps: float
    neighbourhood: str
    frame_seconds: float
    frames: dict[str, Float[np.ndarray, "frames _"]]
    zero: dict[str, Float[np.ndarray, " _"]]
    weights: dict[str, Float[np.ndarray, ...]]
    logits: Float[np.ndarray, " classes"]


def check_live(model: GMSAClassifier) -> None:
    """Refuse a model whose pass a page cannot make.

    Raises:
        ArgumentError: no classes, too many weights, or a block that the page does not know.
    """
    name, attention = model_name(model), model.config.attention
    check_classifies(model.config, f"model {name!r}")
    if attention not in LIVE_BLOCKS:
        raise ArgumentError(f"model {name!r} has attention {attention!r}; live pages know {', '.join(LIVE_BLOCKS)}")
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > LIVE_BYTES:
        raise ArgumentError(
            f"model {name!r} has {size / 1e6:.1f} MB of weights; a live page takes at most {LIVE_BYTES / 1e6:g} MB. "
            "Leave --live out, or open the inspector in a notebook, whose kernel makes the edited passes of any model"
        )


def check_live_checkpoints(names: Sequence[str]) -> None:
    """Refuse models likewise, by name or checkpoint file."""
    for each in name_checkpoints(names):
        check_live(load(each.path, name=each.name, sha256=each.sha256))


def live_model(model: GMSAClassifier, clip: Clip) -> LiveModel:
    """What a page needs to make a model's passes of a clip.

    Args:
        model: on any device; left as it is. In half precision its weights are widened.
        clip: cut to the model's `max_frames`.

    Raises:
        ArgumentError: a model that a page cannot run.
        UnfitClipError: a clip that does not fit the model.
    """
    check_live(model)
    cut = clip.cut(model.config.max_frames)
    check_fits(cut, Inputs.of(model, labels=False))
    model = model.bound_to(cut)
    config, neighbourhood = model.config, model.config.neighbourhood
    with evaluating(model, widen=True) as replica, torch.no_grad():
        weight = next(replica.parameters())
        batch = Batch.from_clips((cut,), tuple(config.modalities)).to(weight.device, weight.dtype)
        frames = {name: _array(encoder.embed(batch.features[name])[0]) for name, encoder in replica.encoders.items()}
        return LiveModel(
            name=model_name(model),
            sha256=str(model.origin.get("sha256", "")),
            features_sha256=features_sha256(clip),
            attention=config.attention,
            heads=config.heads,
            layers=config.layers,
            norm_first=config.norm == "pre",
            eps=_eps(replica),
            neighbourhood="" if neighbourhood is None else neighbourhood_text(neighbourhood).replace("×", "x"),
            frame_seconds=float(cut.frame_seconds),
            frames=frames,
            zero={name: _array(_zero(encoder, config.width(name))) for name, encoder in replica.encoders.items()},
            weights=_weights(replica, cut.frames),
            logits=_array(replica(batch)[0]),
        )


def _weights(model: GMSAClassifier, frames: int) -> dict[str, Float[np.ndarray, ...]]:
    before = tuple(f"encoders.{modality}.project." for modality in model.encoders)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith(before)}
    return {
        name: _array(each[:frames, :frames] if name.endswith(PAIR_WEIGHTS) else each) for name, each in weights.items()
    }


def _zero(encoder: Encoder, dim: int) -> torch.Tensor:
    if encoder.project is None:
        return torch.zeros(dim)
    bias: torch.Tensor = encoder.project.bias
    return bias


def _eps(model: GMSAClassifier) -> float:
    return next(module.eps for module in model.modules() if isinstance(module, nn.LayerNorm))


def _array(values: torch.Tensor) -> Float[np.ndarray, ...]:
    return np.ascontiguousarray(values.detach().cpu().numpy(), np.float32)

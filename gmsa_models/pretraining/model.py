"""A model that predicts frames which it is not shown; what it needs beside the encoders is not part of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gmsa_models.attention import xavier_linear
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.batch import Batch, ShotFrames
from gmsa_models.masks import ChangePoints

__all__ = ["FramePredictor", "from_visible"]

Features = Mapping[str, Float[Tensor, "batch frames _"]]


class FramePredictor(nn.Module):
    """The encoders of a model, a vector that stands for a hidden frame in each stream, and a linear head a stream.

    The vector is learned and begins at 0: features of any space have a frame of zeros near their middle, and no flag
    beside it needs an input of its own, so the encoder keeps its widths.

    Attributes:
        model: whose encoders are trained; its classifier takes no part.
        hidden_frame: the vector of each stream, as wide as a frame, in the order of the model's streams.
        heads: stream -> from an encoded frame to the features of a frame.
    """

    hidden_frame: Sequence[nn.Parameter]
    heads: Mapping[str, nn.Linear]

    def __init__(self, model: GMSAClassifier) -> None:
        super().__init__()
        config = model.config
        self.model = model
        vectors = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in config.modalities.values())
        self.hidden_frame = cast(Sequence[nn.Parameter], vectors)  # as the encoders of a classifier
        heads = {name: xavier_linear(config.width(name), width) for name, width in config.modalities.items()}
        self.heads = cast(Mapping[str, nn.Linear], nn.ModuleDict(heads))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.hidden_frame[0].dtype

    def forward(
        self,
        features: Features,
        valid: Bool[Tensor, "batch frames"],
        hidden: Bool[Tensor, "batch frames"],
        shots: ShotFrames = (),
    ) -> dict[str, Float[Tensor, "hidden _"]]:
        """Predictions of the hidden frames of each stream, clip after clip; nothing of these frames is used."""
        shown = {
            name: torch.where(hidden[:, :, None], vector.to(features[name].dtype), features[name])
            for name, vector in zip(self.model.config.modalities, self.hidden_frame, strict=True)
        }
        encoders = self._bound(features, valid, hidden, shots).encoders
        real = None if bool(valid.all()) else valid
        return {name: self.heads[name](encoder(shown[name], real)[hidden]) for name, encoder in encoders.items()}

    def _bound(
        self,
        features: Features,
        valid: Bool[Tensor, "batch frames"],
        hidden: Bool[Tensor, "batch frames"],
        shots: ShotFrames,
    ) -> GMSAClassifier:
        """The model, its segments those of the visible frames: a boundary would tell of what is hidden.

        Shots are known without the features.
        """
        if not isinstance(self.model.config.neighbourhood, ChangePoints):
            return self.model.bound_to(Batch(dict(features), valid, shots=shots))
        return self.model.bound_to(
            Batch({name: from_visible(values, valid & ~hidden) for name, values in features.items()}, valid)
        )


def from_visible(
    values: Float[Tensor, "batch frames dim"], visible: Bool[Tensor, "batch frames"]
) -> Float[Tensor, "batch frames dim"]:
    """Each frame in place of which the nearest visible one stands, the earlier of two; visible frames are themselves.

    Args:
        values: of every frame.
        visible: True where a frame may be used, at least once a clip.
    """
    places = torch.arange(values.shape[1], device=values.device)
    distance = (places[:, None] - places[None, :]).abs()  # (frames, frames)
    far = distance.new_full((), values.shape[1] + 1)
    nearest = torch.where(visible[:, None, :], distance, far).argmin(-1)
    return values.gather(1, nearest[:, :, None].expand_as(values))

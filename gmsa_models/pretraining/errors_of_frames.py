"""The error of predicted frames, relative to predicting every hidden frame by the mean of its clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.classifier import mean_over_valid

__all__ = ["SquaredErrors", "squared_errors"]


NEGLIGIBLE = 1e-9  # of the frames' sum of squares: what rounding alone makes of frames that do not differ


@dataclass(frozen=True)
class SquaredErrors:
    """Sums over the hidden frames of some clips, of one stream.

    Attributes:
        model: of the model's predictions.
        mean: of predicting the mean of all real frames of the clip, the hidden ones among them; 0 where it is
            what rounding makes of frames that do not differ.
        visible_mean: of predicting the mean of those that are not hidden.
    """

    model: Float[Tensor, ""]
    mean: Float[Tensor, ""]
    visible_mean: Float[Tensor, ""]


def squared_errors(
    predicted: Mapping[str, Float[Tensor, "hidden _"]],
    features: Mapping[str, Float[Tensor, "batch frames _"]],
    valid: Bool[Tensor, "batch frames"],
    hidden: Bool[Tensor, "batch frames"],
) -> dict[str, SquaredErrors]:
    """Squared errors of each stream, summed over hidden frames and components, in at least float32.

    The reference knows the hidden frames and does not know when they are, so a model is below it only if it uses
    where in the clip a frame lies. A mean of the visible frames alone is never quite as good.

    Args:
        predicted: the hidden frames of each stream, clip after clip.
        features: all frames.
        valid: True where a frame is real.
        hidden: True where one is hidden.
    """
    result = {}
    for name, predictions in predicted.items():
        values = features[name].to(torch.promote_types(features[name].dtype, torch.float32))
        frames = values[hidden]

        def error(guess: Tensor, frames: Tensor = frames) -> Tensor:
            return (guess.to(frames.dtype) - frames).square().sum()

        means = [mean_over_valid(values, real)[:, None].expand_as(values)[hidden] for real in (valid, valid & ~hidden)]
        mean, visible_mean = map(error, means)
        differ = mean > NEGLIGIBLE * frames.square().sum()
        result[name] = SquaredErrors(error(predictions), torch.where(differ, mean, 0), visible_mean)
    return result

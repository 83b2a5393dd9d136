"""The logit of a stream with some frames replaced, for many choices of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.explanations.incremental.after_attention import AfterAttention
from analysis.explanations.incremental.as_written import is_as_written
from analysis.explanations.incremental.equal_frames import EqualFrames
from analysis.explanations.incremental.gated_masks import GatedMasks
from analysis.explanations.incremental.kept_projections import KeptProjections
from analysis.explanations.stream import WIDTH, Stream, clips_together
from gmsa_models.attention import AttentionBlock, GateAtt
from gmsa_models.errors import ArgumentError

__all__ = ["CARRIED", "KeptScores", "kept_scores"]

Frames = Float[Tensor, "frames width"]
Choices = Bool[Tensor, "masks frames"]

# Blocks whose contexts under one choice of frames are made from those under the choice before.
CARRIED: dict[type[AttentionBlock], Callable[[Any, Frames, Frames], GatedMasks]] = {GateAtt: GatedMasks}
LONG = 128  # frames from which on that takes less time


def kept_scores(stream: Stream, inputs: Frames, baseline: Frames, kept: Choices) -> Float[Tensor, " masks"]:
    """The stream's logit with some frames replaced, for many choices of them.

    Args:
        stream: of one modality.
        inputs: the clip's frames.
        baseline: what replaces them, frame by frame.
        kept: True where the clip's own frame stays.

    Raises:
        ArgumentError: masks of another number of frames.
    """
    return KeptScores(stream, inputs, baseline)(kept)


class KeptScores:
    """The same from call to call; with GateAtt a choice that differs little from the last takes less time.

    Args:
        stream, inputs, baseline: see `kept_scores`.
    """

    def __init__(self, stream: Stream, inputs: Frames, baseline: Frames) -> None:
        with torch.no_grad():
            # Frames are embedded one by one, so each of the two is once, whatever the number of masks.
            both = stream.encoder.embed(torch.stack([inputs, baseline]))
            self._scores = _scores(stream, both)
        # Steps from choice to choice need little memory, and less time where many are planned at once.
        width = WIDTH if isinstance(self._scores, _Carried) else both.shape[-1]
        self._frames, self._none = len(inputs), both.new_zeros(0)
        self._together = clips_together(self._frames, width)

    def __call__(self, kept: Choices) -> Float[Tensor, " masks"]:
        """The stream's logit with the frames where `kept` is False replaced.

        Raises:
            ArgumentError: masks of another number of frames.
        """
        if kept.shape[1] != self._frames:
            raise ArgumentError(f"masks over {kept.shape[1]} frames; the clip has {self._frames}")
        with torch.no_grad():
            parts = [self._scores(some) for some in kept.to(self._none.device).split(self._together) if len(some)]
        return torch.cat(parts) if parts else self._none


def _scores(stream: Stream, both: Float[Tensor, "2 frames dim"]) -> Callable[[Choices], Float[Tensor, " masks"]]:
    """The way that takes least time, of embedded frames of the clip and those that replace them."""
    layers = stream.encoder.layers
    own, other = both
    if is_as_written(stream):
        long = len(own) >= LONG and own.device.type == "cpu"
        if long and len(layers) == 1 and type(layers[0].attention) in CARRIED:
            return _Carried(stream, both)
        if EqualFrames.serves(stream, other):
            return EqualFrames(stream, both)
        if KeptProjections.serves(stream):
            return KeptProjections(stream, both)
    return lambda kept: stream.resume(torch.where(kept[:, :, None], own, other))


class _Carried:
    """Logits from contexts that are made from those of the choice before."""

    def __init__(self, stream: Stream, both: Float[Tensor, "2 frames dim"]) -> None:
        layer = stream.encoder.layers[0]
        self._both, self._output = both, layer.block.output
        self._masks = CARRIED[type(layer.block)](layer.block, *layer.attention_input(both))
        self._after = AfterAttention(stream)

    def __call__(self, kept: Choices) -> Float[Tensor, " masks"]:
        own, other = self._both
        hidden, output = torch.where(kept[:, :, None], own, other), self._output
        contexts = self._masks.contexts(kept).flatten(0, 1)
        sums = hidden.flatten(0, 1).addmm_(contexts, output.weight.T)
        if output.bias is not None:
            sums += output.bias
        return self._after(sums).view(kept.shape).mean(1)

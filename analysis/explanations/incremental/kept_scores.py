"""The logit of a stream with some frames replaced, for many choices of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.explanations.incremental.after_attention import AfterAttention
from analysis.explanations.incremental.gated_masks import GatedMasks
from analysis.explanations.stream import WIDTH, Stream, clips_together
from gmsa_models.attention import AttentionBlock, GateAtt
from gmsa_models.errors import ArgumentError

__all__ = ["CARRIED", "KeptScores", "kept_scores"]

Frames = Float[Tensor, "frames width"]

# Blocks whose contexts under one choice of frames are made from those under the choice before.
CARRIED: dict[type[AttentionBlock], Callable[[Any, Frames, Frames], GatedMasks]] = {GateAtt: GatedMasks}
LONG = 128  # frames from which on that takes less time


def kept_scores(
    stream: Stream, inputs: Frames, baseline: Frames, kept: Bool[Tensor, "masks frames"]
) -> Float[Tensor, " masks"]:
    """The stream's logit with some frames replaced, for many choices of them.

    Args:
        stream: of one modality.
        inputs: the clip's frames.
        baseline: what replaces them, frame by frame.
        kept: True where the clip's own frame stays.

    Raises:
        ArgumentError: masks of another number of frames.
    """
    if kept.shape[1] != len(inputs):
        raise ArgumentError(f"masks over {kept.shape[1]} frames; the clip has {len(inputs)}")
    return KeptScores(stream, inputs, baseline)(kept)


class KeptScores:
    """The same from call to call; with GateAtt a choice that differs little from the last takes less time.

    Args:
        stream, inputs, baseline: see `kept_scores`.
    """

    def __init__(self, stream: Stream, inputs: Frames, baseline: Frames) -> None:
        self._stream = stream
        layer, count = stream.encoder.layers[0], len(inputs)
        with torch.no_grad():
            # Frames are embedded one by one, so each of the two is once, whatever the number of masks.
            self._both = stream.encoder.embed(torch.stack([inputs, baseline]))
            self._carried: tuple[GatedMasks, AfterAttention] | None = None
            block, alone = layer.attention, len(stream.encoder.layers) == 1
            fast = CARRIED.get(type(block)) if block is not None and alone else None
            if fast is not None and count >= LONG and inputs.device.type == "cpu":
                own, other = layer.attention_input(self._both)
                self._carried = fast(block, own, other), AfterAttention(stream)

    def __call__(self, kept: Bool[Tensor, "masks frames"]) -> Float[Tensor, " masks"]:
        """The stream's logit with the frames where `kept` is False replaced."""
        # Steps from choice to choice need little memory, and less time where many are planned at once.
        width = WIDTH if self._carried else self._both.shape[-1]
        together = clips_together(kept.shape[1], width)
        with torch.no_grad():
            parts = [self._scores(some) for some in kept.to(self._both.device).split(together) if len(some)]
        return torch.cat(parts) if parts else self._both.new_zeros(0)

    def _scores(self, kept: Bool[Tensor, "masks frames"]) -> Float[Tensor, " masks"]:
        stream = self._stream
        own, other = self._both
        hidden = torch.where(kept[:, :, None], own, other)
        if self._carried is None:
            return stream.resume(hidden)
        masks, after = self._carried
        contexts = masks.contexts(kept).flatten(0, 1)
        output = stream.encoder.layers[0].block.output
        sums = hidden.flatten(0, 1).addmm_(contexts, output.weight.T)
        if output.bias is not None:
            sums += output.bias
        return after(sums).view(kept.shape).mean(1)

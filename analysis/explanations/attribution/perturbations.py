"""Attribution by replacing frames: occlusion of frames and of segments, Shapley values of segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.explanations.attribution.seeding import seeded
from analysis.explanations.attribution.stream import FRAMES_TOGETHER, Stream
from analysis.explanations.explanation import ExplanationError
from analysis.explanations.incremental.after_attention import AfterAttention
from analysis.explanations.incremental.gated_masks import GatedMasks
from gmsa_models.attention import AttentionBlock, GateAtt

__all__ = ["CARRIED", "KeptScores", "kept_scores", "occlusion", "segment_shapley"]

Frames = Float[Tensor, "frames width"]
Groups = Int[Tensor, " frames"]

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
        ExplanationError: masks of another number of frames.
    """
    if kept.shape[1] != len(inputs):
        raise ExplanationError(f"masks over {kept.shape[1]} frames; the clip has {len(inputs)}")
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
        together = max(1, FRAMES_TOGETHER // kept.shape[1])
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


def occlusion(stream: Stream, inputs: Frames, baseline: Frames, groups: Groups) -> Float[Tensor, " frames"]:
    """How much the logit falls when a group of frames is replaced, shared evenly among its frames.

    Args:
        groups: the group of each frame, 0 to G - 1; one a frame occludes frame by frame.

    Source:
        Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014.
    """
    count = int(groups.max()) + 1
    kept = torch.arange(count)[:, None] != groups
    whole = torch.ones(1, len(inputs), dtype=torch.bool)
    scores = kept_scores(stream, inputs, baseline, torch.cat([whole, kept]))
    return _shared(scores[0] - scores[1:], groups)


def segment_shapley(
    stream: Stream, inputs: Frames, baseline: Frames, groups: Groups, n_samples: int = 8, seed: int = 0
) -> tuple[Float[Tensor, " frames"], float]:
    """Shapley values of groups of frames by sampling orders, shared evenly among the frames of a group.

    Whatever the number of samples the values add up to the difference of the logits of clip and baseline, since each
    order's do; the second result is by how much they fail to, which is rounding.

    Args:
        groups: the group of each frame.
        n_samples: orders drawn.
        seed: of the orders.

    Source:
        Castro, Gomez and Tejada, "Polynomial calculation of the Shapley value based on sampling", 2009, as captum's
        `ShapleyValueSampling`.
    """
    from captum.attr import ShapleyValueSampling

    count = int(groups.max()) + 1
    together, scores = max(1, FRAMES_TOGETHER // len(inputs)), KeptScores(stream, inputs, baseline)
    # captum's features are the groups themselves, there (1) or replaced (0), rather than the numbers in the frames.
    score = lambda there: scores(there[:, groups] > 0.5).cpu()  # noqa: E731
    there = torch.ones(1, count, dtype=torch.float32)
    with seeded(seed):
        found = ShapleyValueSampling(score).attribute(
            there, torch.zeros_like(there), n_samples=n_samples, perturbations_per_eval=together
        )
    of_group = found[0].to(inputs.dtype)
    none, whole = score(torch.cat([torch.zeros_like(there), there]))
    difference = whole - none
    return _shared(of_group, groups), float(of_group.sum() - difference)


def _shared(of_group: Float[Tensor, " groups"], groups: Groups) -> Float[Tensor, " frames"]:
    sizes = torch.bincount(groups).to(of_group)
    return (of_group / sizes)[groups]

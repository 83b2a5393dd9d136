"""Attribution by replacing frames: occlusion of frames and of segments, Shapley values of segments."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.explanations.attribution.seeding import seeded
from analysis.explanations.incremental.kept_scores import KeptScores, kept_scores
from analysis.explanations.stream import FRAMES_TOGETHER, Stream

__all__ = ["occlusion", "segment_shapley"]

Frames = Float[Tensor, "frames width"]
Groups = Int[Tensor, " frames"]


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
    score = lambda present: scores(present[:, groups] > 0.5).cpu()  # noqa: E731
    present = torch.ones(1, count, dtype=torch.float32)
    with seeded(seed):
        attributions = ShapleyValueSampling(score).attribute(
            present, torch.zeros_like(present), n_samples=n_samples, perturbations_per_eval=together
        )
    of_group = attributions[0].to(inputs.dtype)
    none, whole = score(torch.cat([torch.zeros_like(present), present]))
    difference = whole - none
    return _shared(of_group, groups), float(of_group.sum() - difference)


def _shared(of_group: Float[Tensor, " groups"], groups: Groups) -> Float[Tensor, " frames"]:
    sizes = torch.bincount(groups).to(of_group)
    return (of_group / sizes)[groups]

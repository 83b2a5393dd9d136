"""Attribution by replacing frames: occlusion of frames and of segments, Shapley values of segments."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.explanations.incremental.kept_scores import KeptScores, kept_scores
from analysis.explanations.stream import Stream
from gmsa_models.errors import ArgumentError

__all__ = ["occlusion", "segment_shapley"]

Frames = Float[Tensor, "frames width"]
Groups = Int[Tensor, " frames"]
Value = Callable[[Bool[Tensor, "sets groups"]], Float[Tensor, " sets"]]

EXACT_GROUPS = 12  # 4096 sets


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
) -> tuple[Float[Tensor, " frames"], float, Float[Tensor, " frames"]]:
    """Shapley values of groups of frames, shared evenly among the frames of a group.

    Up to `EXACT_GROUPS` groups they are exact, of all sets of groups; beyond, means over drawn orders. Either way they
    add up to the difference of the logits of clip and baseline; the second result is by how much they fail to, which is
    rounding. The third is their standard error: 0 where they are exact.

    Args:
        groups: the group of each frame.
        n_samples: orders drawn where there are more groups, at least 1.
        seed: of the orders.

    Raises:
        ArgumentError: no orders.

    Source:
        Shapley, "A Value for n-Person Games", 1953; Castro, Gomez and Tejada, "Polynomial calculation of the Shapley
        value based on sampling", 2009.
    """
    if n_samples < 1:
        raise ArgumentError(f"n_samples is {n_samples!r}; expected at least 1")
    scores = KeptScores(stream, inputs, baseline)
    value = lambda present: scores(present[:, groups.to(present.device)]).cpu().double()  # noqa: E731
    count = int(groups.max()) + 1
    if count <= EXACT_GROUPS:
        of_group, difference = _exact_values(value, count)
        error = torch.zeros_like(of_group)
    else:
        generator = torch.Generator().manual_seed(seed)
        orders = torch.stack([torch.randperm(count, generator=generator) for _ in range(n_samples)])
        of_group, error, difference = _sampled_values(value, orders)
    of_group, error = of_group.to(inputs.dtype).cpu(), error.to(inputs.dtype).cpu()
    return _shared(of_group, groups), float(of_group.sum() - difference), _shared(error, groups)


def _exact_values(value: Value, count: int) -> tuple[Float[Tensor, " groups"], float]:
    """What each group adds to every set of the others, weighted by how many orders begin with that set."""
    places = torch.arange(count)
    numbers = torch.arange(2**count)
    numbers = numbers ^ (
        numbers >> 1
    )  # Gray's code: each set differs from the last by one group, which takes less time
    present = (numbers[:, None] >> places) & 1 == 1
    of_set = torch.empty(2**count, dtype=torch.float64)
    of_set[numbers] = value(present)
    sizes = ((torch.arange(2**count)[:, None] >> places) & 1).sum(1)
    weights = torch.tensor([1 / (count * comb(count - 1, size)) for size in range(count)], dtype=torch.float64)
    values = []
    for group in range(count):
        without = torch.nonzero(torch.arange(2**count) >> group & 1 == 0).squeeze(1)
        values.append((weights[sizes[without]] * (of_set[without | 1 << group] - of_set[without])).sum())
    return torch.stack(values), float(of_set[-1] - of_set[0])


def _sampled_values(
    value: Value, orders: Int[Tensor, "samples groups"]
) -> tuple[Float[Tensor, " groups"], Float[Tensor, " groups"], float]:
    """Means over the orders of what each group adds to those before it; their standard errors, NaN of one order."""
    samples, count = orders.shape
    rank = torch.argsort(orders, 1)
    present = rank[:, None, :] < torch.arange(count + 1)[:, None]
    of_set = value(present.flatten(0, 1)).view(samples, count + 1)
    added = torch.gather(of_set.diff(dim=1), 1, rank)
    error = added.std(0) / samples**0.5 if samples > 1 else torch.full_like(added[0], torch.nan)
    return added.mean(0), error, float(of_set[0, -1] - of_set[0, 0])


def _shared(of_group: Float[Tensor, " groups"], groups: Groups) -> Float[Tensor, " frames"]:
    sizes = torch.bincount(groups).to(of_group)
    return (of_group / sizes)[groups]

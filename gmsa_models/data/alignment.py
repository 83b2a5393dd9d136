"""What is done with streams of different lengths: nothing is cut without a rule, and a clip says what was cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gmsa_models.data.errors import brief
from gmsa_models.errors import ContentError

__all__ = ["REFUSE", "align_streams", "aligned_frames"]

REFUSE = "refuse"


def _refuse(frames: Mapping[str, int]) -> int:
    if len(set(frames.values())) > 1:
        raise ContentError(
            f"its streams differ in frames: {brief(dict(frames))}; make them equal, or say align='shortest'"
        )
    return next(iter(frames.values()))


def _shortest(frames: Mapping[str, int]) -> int:
    return min(frames.values())


# Name of a rule -> how many first frames of every stream are kept.
ALIGNMENTS: dict[str, Callable[[Mapping[str, int]], int]] = {REFUSE: _refuse, "shortest": _shortest}


def aligned_frames(frames: Mapping[str, int], rule: str = REFUSE) -> int:
    """How many first frames of each stream a clip has.

    Args:
        frames: stream -> its frames; at least one stream.
        rule: a key of `ALIGNMENTS`; "refuse": streams must be equally long, "shortest": all are cut to the shortest.

    Raises:
        ContentError: streams that the rule does not align, or an unknown rule.
    """
    if rule not in ALIGNMENTS:
        raise ContentError(f"align is {brief(rule)}; known: {', '.join(ALIGNMENTS)}")
    return ALIGNMENTS[rule](frames)


def align_streams(features: Mapping[str, np.ndarray], rule: str = REFUSE) -> tuple[dict[str, np.ndarray], str]:
    """Streams of one length, and what was cut, in words for `Clip.alignment`; "" where nothing was.

    Raises:
        ContentError: as `aligned_frames`.
    """
    lengths = {name: len(values) for name, values in features.items()}
    frames = aligned_frames(lengths, rule)
    cut = [f"{name} from {length}" for name, length in lengths.items() if length > frames]
    note = f"{rule}: cut to {frames} frames, {', '.join(cut)}" if cut else ""
    return {name: values[:frames] for name, values in features.items()}, note

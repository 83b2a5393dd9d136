"""The cells of an effect map: windows of seconds, and branches or heads that lose them; as edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.attention.segments import WINDOW
from analysis.interventions.edits import EditError, KnockOut, Number, Patch, Seconds
from analysis.interventions.sites import Site
from gmsa_models.attention import AttentionBlock
from gmsa_models.branches import in_order
from gmsa_models.data.clip import Clip

__all__ = ["DIRECTIONS", "Unit", "effect_edits", "effect_units", "taken_spans", "windows_of"]

DIRECTIONS = ("noising", "denoising")


@dataclass(frozen=True)
class Unit:
    """One branch of a block, or one head of it.

    Attributes:
        branch: of the block.
        head: as it stands among all heads of the layer; None: all heads of the branch.
    """

    branch: str
    head: int | None = None

    def site(self, stream: str, layer: int, quantity: str) -> Site:
        """Where it is."""
        return Site(stream, quantity, layer, self.branch, () if self.head is None else (self.head,))


def effect_units(*blocks: AttentionBlock) -> tuple[Unit, ...]:
    """Every branch of some blocks and every head of each."""
    heads = {branch: block.heads_of(branch) for block in blocks for branch in block.branches}
    order = in_order(heads)
    return tuple(Unit(each, head) for each in order for head in (None, *range(heads[each].start, heads[each].stop)))


def windows_of(clip: Clip, seconds: Number = WINDOW) -> tuple[Seconds, ...]:
    """Windows of one length that cover a clip; the last may be shorter.

    Raises:
        EditError: windows shorter than a frame.
    """
    if seconds < clip.frame_seconds:
        raise EditError(f"windows of {seconds:g} s; expected at least one frame, {clip.frame_seconds:g} s")
    end = clip.frames * clip.frame_seconds
    return tuple((start, min(start + seconds, end)) for start in np.arange(0, end - 1e-9, seconds).tolist())


def effect_edits(
    site: Site, spans: Sequence[Seconds], source: Clip | str | None = None
) -> tuple[KnockOut | Patch, ...]:
    """Edits that take some spans of keys from a unit: knock-out at its weights, or patches at its values.

    Args:
        site: of `Unit.site`, of "weights" for knock-out and "values" for patches.
        spans: in seconds.
        source: of patches; None: knock-out.
    """
    if source is None:
        return tuple(KnockOut(site, keys=span) for span in spans)
    return tuple(Patch(site, source, span) for span in spans)


def taken_spans(window: Seconds, direction: str, end: float) -> tuple[Seconds, ...]:
    """What a cell takes from its unit: the window (noising), or all but the window (denoising).

    Args:
        window: in seconds.
        direction: of `DIRECTIONS`.
        end: of the clip, in seconds.
    """
    if direction == "noising":
        return (window,)
    return tuple(span for span in ((0.0, window[0]), (window[1], end)) if span[0] < span[1])

"""What the maps of a GMSA model are: certified, and named by the kind of head that makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

from analysis.attention.certificates import Certificate, certify_layer
from analysis.attention.taxonomy import view_taxonomy
from analysis.gmsa_view import attention_block, view_clips
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.masks import OfClip
from gmsa_models.segments import spans_of_mask
from gmsa_models.trace import AttentionTrace

__all__ = ["certify", "head_taxonomy"]


def certify(model: GMSAClassifier, trace: AttentionTrace, *, layer: int = 0, seed: int = 0) -> tuple[Certificate, ...]:
    """Check every attention map of a traced layer; only the model's weights and the traced X are taken as given.

    Args:
        model: the model that made the trace.
        trace: of one clip or a batch; padded clips are certified too. Segments that depend on the clip are those of
            the trace: which clips they are of it does not know.
        layer: which layer, from 0.
        seed: which frames are moved, and where to.

    Returns:
        One certificate a modality, branch and check, in that order; none for the control, which has no maps.

    Raises:
        KeyError, IndexError: a modality or layer that the model lacks.
    """
    certificates: list[Certificate] = []
    for modality in trace.layers:
        recorded = trace.layer(modality, layer)
        if recorded.weights:
            block = attention_block(model, modality, layer)
            if isinstance(block.neighbourhood, OfClip) and recorded.neighbourhood is not None:
                block = block.bound_to(spans_of_mask(recorded.neighbourhood))
            certificates += certify_layer(block, modality, recorded, trace.valid, seed)
    return tuple(certificates)


def head_taxonomy(
    model: GMSAClassifier, clips: Iterable[Clip], progress: Callable[[int], None] = lambda clips: None
) -> pd.DataFrame:
    """What each head's maps are like, means over videos, and the kind of head that makes it; see `view_taxonomy`.

    Args:
        model: with attention; else the table is empty.
        clips: segments count where they are known.
        progress: called after each clip with 1.

    Returns:
        A row a modality, branch and head: `MEASURES`, `videos`, and `kind`: a key of `RULES`, or "mixed".
    """
    return view_taxonomy((view_clips(model, [clip]) for clip in clips), progress)

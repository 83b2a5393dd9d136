"""Representations: the frames of any traced layer, their similarity, and how alike heads, layers and models are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.attention.similarity import frame_centred_cosine_similarity, frame_cosine_similarity, linear_cka
from gmsa_models.attention import join_heads
from gmsa_models.errors import ArgumentError, UnknownNameError
from gmsa_models.trace import AttentionTrace, LayerTrace

__all__ = ["REPRESENTATIONS", "cka_table", "head_contexts", "traced_frames", "traced_similarity"]

# Which frames of a layer: X, the block's context (heads joined), Y, and the layer's output.
REPRESENTATIONS: dict[str, Callable[[LayerTrace], Float[Tensor, "batch frames _"]]] = {
    "input": lambda layer: layer.recorded("input"),
    "context": lambda layer: join_heads(_context(layer)),
    "output": lambda layer: layer.recorded("output"),
    "encoded": lambda layer: layer.recorded("encoded"),
}


def traced_frames(
    trace: AttentionTrace, modality: str, at: str = "output", *, layer: int = 0, clip: int = 0
) -> Float[Tensor, "frames dim"]:
    """The real frames of one clip as a traced layer has them.

    Args:
        trace: of one clip or a batch.
        modality: a modality of the trace.
        at: a key of `REPRESENTATIONS`. "context" is the one that feeds the output: combined where there is one,
            else the global and the local side by side.
        layer: which layer, from 0.
        clip: row of the batch.

    Raises:
        UnknownNameError: an unknown `at`, or a context of the control, which has none.
        KeyError, IndexError: a modality or layer that the trace lacks.
    """
    if at not in REPRESENTATIONS:
        raise UnknownNameError(f"no representation {at!r}; known: {', '.join(REPRESENTATIONS)}")
    return REPRESENTATIONS[at](trace.layer(modality, layer))[clip, trace.valid[clip]]


def traced_similarity(
    trace: AttentionTrace,
    modality: str,
    at: str = "output",
    *,
    layer: int = 0,
    clip: int = 0,
    centred: bool = False,
) -> Float[Tensor, "frames frames"]:
    """Cosine similarity of a clip's frames as a traced layer has them.

    Args:
        centred: after the clip's mean frame is taken from each; see `frame_centred_cosine_similarity`.
        trace, modality, at, layer, clip: see `traced_frames`.

    Returns:
        Similarities in [-1, 1], of the real frames only.

    Raises:
        ArgumentError: a frame without a direction (of norm 0), such as the control's output.
        UnknownNameError, KeyError, IndexError: see `traced_frames`.
    """
    similarity = frame_centred_cosine_similarity if centred else frame_cosine_similarity
    return similarity(traced_frames(trace, modality, at, layer=layer, clip=clip))


def head_contexts(
    trace: AttentionTrace, modality: str, branch: str, *, layer: int = 0, clip: int = 0
) -> dict[str, Float[Tensor, "frames head_dim"]]:
    """What each head of a branch hands on, A V, by name ("head 0" ...), for `cka_table`.

    Args:
        branch: a branch of the layer; heads are numbered as they stand in it.
        trace, modality, layer, clip: see `traced_frames`.

    Raises:
        UnknownNameError: a branch that the layer lacks; lists those it has.
        KeyError, IndexError: see `traced_frames`.
    """
    contexts = trace.layer(modality, layer).contexts
    if branch not in contexts:
        raise UnknownNameError(f"no branch {branch!r} in this layer; it has {', '.join(contexts) or 'none'}")
    heads = contexts[branch][clip][:, trace.valid[clip]]
    return {f"head {head}": context for head, context in enumerate(heads)}


def cka_table(representations: Mapping[str, Float[Tensor, "frames _"]]) -> pd.DataFrame:
    """Linear CKA between every two representations of the same frames: heads, layers, branches or models.

    With fewer frames than features CKA is high for unrelated representations too: 170 frames of 1024 random features
    have about 0.86. Compare tables of the same frames and widths.

    Args:
        representations: name -> one vector a frame; widths may differ, frames may not.

    Returns:
        A square table, names on both axes; symmetric, in [0, 1], 1 on the diagonal.

    Raises:
        ArgumentError: see `linear_cka`; a representation of other frames. The message names the representation.

    Source:
        Kornblith et al., ICML 2019; on the bias, Murphy, Zylberberg and Fyshe, "Correcting Biased Centered Kernel
        Alignment Measures in Biological and Artificial Neural Networks", 2024.
    """
    names = list(representations)
    table = pd.DataFrame(1.0, index=names, columns=names)
    for place, one in enumerate(names):
        for two in names[place:]:
            table.loc[one, two] = table.loc[two, one] = float(_cka(representations, one, two))
    return table


def _cka(representations: Mapping[str, Float[Tensor, "frames _"]], one: str, two: str) -> Float[Tensor, ""]:
    first, second = representations[one], representations[two]
    if len(first) != len(second):
        raise ArgumentError(f"{one!r} has {len(first)} frames, {two!r} has {len(second)}; expected the same frames")
    try:
        return linear_cka(first, second)
    except ArgumentError as error:
        raise ArgumentError(f"{one!r} and {two!r}: {error}") from error


def _context(layer: LayerTrace) -> Float[Tensor, "batch heads frames head_dim"]:
    if not layer.contexts:
        raise UnknownNameError("no context in this layer; the control (attention 'none') has none")
    if "combined" in layer.contexts:
        return layer.contexts["combined"]
    return torch.cat(list(layer.contexts.values()), 1)

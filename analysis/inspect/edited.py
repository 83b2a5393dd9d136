"""The view of an edited pass, from which records are made as from any other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from analysis.gmsa_view import gmsa_capabilities, view_of_trace
from analysis.interventions.edit_texts import checked_edits, edit_text
from analysis.interventions.edits import Edit, ReplaceNeighbourhood
from analysis.interventions.named_clips import clips_beside
from analysis.interventions.plan import EditPlan
from analysis.interventions.running import EditRun
from analysis.interventions.sites import matching_sites
from analysis.record.edits import EDITED
from analysis.view import Capabilities, TraceView
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.masks import BlockDiagonal, Neighbourhood, Scales, Toeplitz, ToeplitzDilated
from gmsa_models.trace import Stage

__all__ = ["edited_view"]


def edited_view(
    model: GMSAClassifier, clip: Clip, edits: Iterable[Edit | str], *, chosen: Neighbourhood | None = None
) -> TraceView:
    """What a model saw in a clip in a pass with edits.

    The model's name becomes `NAME@edited`, and the view's attributes say what was changed. Gradient norms are given of
    blocks in which nothing was changed; contributions where the block's output was not patched. The clip's own features
    are as they were, and so is every frame's place in time: what edits say of seconds is of the pass.

    Args:
        model, clip: see `analysis.view_clips`.
        edits: see `run_with`; at least one.
        chosen: see `TraceView`.

    Raises:
        As `run_with`.
    """
    made = checked_edits(edits, clips_beside(clip))
    run = EditRun(model, [clip])
    plan, trace = run.plan(made), run.trace(made)
    view = view_of_trace(model, [clip], trace, _capabilities(run.model, plan), chosen)
    attributes = {"edits": json.dumps([edit_text(each) for each in made], ensure_ascii=False)}
    note = replace(view.model, name=f"{view.model.name}{EDITED}", attributes=dict(view.model.attributes) | attributes)
    return replace(view, model=note, own=_neighbourhood(model, made), edited=True)


def _capabilities(model: GMSAClassifier, plan: EditPlan) -> Capabilities:
    """What the model can say of an edited pass."""
    plain = gmsa_capabilities(model)

    def gradient_norms(view: TraceView, modality: str, layer: int) -> Float[Tensor, "batch query key"] | None:
        changed = modality in plan.dropped or any(
            (stage.stream, stage.layer) == (modality, layer) and stage.quantity not in ("input", "encoded")
            for stage in plan.actions
        )
        return None if changed or plain.gradient_norms is None else plain.gradient_norms(view, modality, layer)

    def contributions(view: TraceView, modality: str, layer: int) -> dict[str, Float[Tensor, "batch frames _"]]:
        if Stage(modality, layer, "", "output") in plan.actions or plain.contributions is None:
            return {}
        return plain.contributions(view, modality, layer)

    return Capabilities(gradient_norms=gradient_norms, contributions=contributions)


def _neighbourhood(model: GMSAClassifier, edits: Sequence[Edit]) -> Neighbourhood | None:
    """The one neighbourhood of all layers after the edits; the model's own where they differ."""
    own = model.config.neighbourhood
    parts = own.parts if isinstance(own, Scales) else (own,)
    layers: dict[tuple[str, int | str | None], dict[str, Neighbourhood | None]] = {}
    for stream, encoder in model.encoders.items():
        for number, layer in enumerate(encoder.layers):
            if layer.attention is not None and layer.attention.local:
                layers[stream, number] = dict(zip(layer.attention.local_branches, parts, strict=True))
    for edit in edits:
        if isinstance(edit, ReplaceNeighbourhood):
            for site in matching_sites(model, edit.site):
                layers[site.stream, site.layer][site.branch] = edit.pattern
    first, *others = [list(each.values()) for each in layers.values()] or [[own]]
    if any(other != first for other in others):
        return own
    return first[0] if len(first) == 1 else _scales(first) or own


def _scales(parts: Sequence[Neighbourhood | None]) -> Scales | None:
    """Several neighbourhoods as one; None where one of them is not the same in all clips."""
    each = [one for part in parts for one in (part.parts if isinstance(part, Scales) else (part,))]
    same = [part for part in each if isinstance(part, BlockDiagonal | Toeplitz | ToeplitzDilated)]
    return Scales(tuple(dict.fromkeys(same))) if len(same) == len(each) else None

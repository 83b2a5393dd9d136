"""From any PyTorch module and one input to a record: the same as of a GMSA model, so that every view reads it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import SupportsIndex

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from analysis.capture import Adapter
from analysis.capture.adapter import Inputs
from analysis.capture.capture import refuse_graphs
from analysis.capture.layout import Layout
from analysis.errors import RecordError
from analysis.explanations.class_explanations import ClassExplanations
from analysis.explanations.input_steps import module_steps
from analysis.explanations.module_explanations import MODULE_METHODS, ModuleScore, check_module_methods, explain_module
from analysis.module_arguments import check_kinds
from analysis.module_order import check_key_order
from analysis.module_runs import evaluating_module
from analysis.module_sites import Probes
from analysis.module_view import ModuleClip, view_module
from analysis.record.assemble import check_parts, record_of
from analysis.record.layers import record_layers
from analysis.record.spatial_variables import spatial_variable
from analysis.view import ModelNote, TraceView
from gmsa_models.masks import Neighbourhood

__all__ = ["inspect_module"]

CHECKS = (None, "order")


def inspect_module(
    module: nn.Module,
    inputs: Inputs,
    *,
    layout: Layout | Mapping[str, Layout | None] | None = None,
    class_names: Sequence[str] | None = None,
    streams: Mapping[str, str] | None = None,
    activation: str = "softmax",
    adapter: Adapter | None = None,
    features: Mapping[str, Float[np.ndarray, "frames _"]] | None = None,
    clip: ModuleClip | None = None,
    neighbourhood: Neighbourhood | None = None,
    layer: int = 0,
    layers: Sequence[int] | str | None = None,
    parts: Sequence[str] | None = None,
    probes: Probes | None = None,
    target: SupportsIndex | str | None = None,
    methods: Sequence[str] | None = None,
    steps: Int[Tensor, "*numbers"] | None = None,
    mask: Bool[Tensor, "query key"] | None = None,
    note: ModelNote | None = None,
    pinned: int | None = None,
    heads_of_lists: bool = True,
    check: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    record_progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Everything that a module saw in one clip, as `inspect_clip` tells it of a GMSA model.

    Its attention calls are recorded and verified by `analysis.capture` and reduced to maps between time steps; the
    share of a query on tokens of no frame is `attention_outside`. Calls whose paths differ in numbers only are the
    layers of one *stream*, which is a `modality` of the record; all maps are of the branch "global". What such a module
    cannot say (gates, contributions, certificates) is absent. The part "explanation" holds the methods of
    `analysis.explanations.module_explanations`, which replace and differentiate the module's input.

    Args:
        module: any; run in evaluation mode, and left as it was.
        inputs: of one clip: a tensor, a tuple of arguments, or arguments by name. Of several the part "explanation" is
            of the first tensor of floats that holds features of the frames, and is no mask or bias (or of the shape of
            `steps`).
        layout: of the tokens, see `analysis.capture.capture`; default: recognised.
        class_names: one a class; default: those of the module's configuration, else numbers.
        streams: name -> pattern of module paths; default: by path.
        activation: what turns the module's logits into probabilities: "softmax" or "sigmoid". `logit` of the record is
            the log-odds, so that `score` is its sigmoid in both.
        adapter: of a module whose attention is not seen.
        features: stream -> a vector a time step, of which `similarity` is; default: what the stream's first attention
            module was given, as the mean over a frame's tokens.
        clip: what the input is called, and its seconds.
        neighbourhood: N_i by which S_i is measured; without one there is no `sensitivity`.
        layer, layers, parts: see `inspect_clip`.
        probes: how G is computed; default: sampled with 16 vectors a frame, whose error is `gradient_norm_error`. Its
            X and Y are the tokens of a frame before and after the module that attends. Exact: `Probes(None)`, for small
            models: one product for every number of the output.
        target: the class that the part "explanation" explains, by position or name; None: the most probable.
        methods: that the part "explanation" has: keys of `MODULE_METHODS`; default: all, but "gradient-received" only
            beside the part "sensitivity".
        steps: the time step that each number of the input belongs to, of its shape or broadcast to it, for the part
            "explanation"; default: along the axis, a multiple of the time steps long, by whose parts the tokens of the
            time steps change.
        mask: True where a time step can attend to another at all, if not everywhere: profiles are relative to it.
        note: what the record says of the model; default: the name of its class. Where the module's configuration has
            `weights: "random"`, the name says so.
        pinned: a query frame whose spatial map is added, `spatial_attention` (modality, head, key, patch).
        heads_of_lists: modules of one `nn.ModuleList` that are given the same tokens, none of which come of another of
            them, are heads of one layer, named by the list, and so are the calls that a module makes in a run if they
            have as many heads together as it says (`num_heads`); False: each is a layer.
        check: "order": refuse calls whose tokens are in another order than the layout says, by `check_key_order`, with
            a pass more for each of at most 8 time steps; None: what the module multiplies is taken as the layout says.
        progress: called as the class is explained, with the steps done and their number.
        record_progress: see `inspect_clip`.

    Returns:
        The record.

    Raises:
        RecordError (a ValueError): no logits of one clip, streams of unequal layers, names that are not one a class,
            features that are not known.
        CaptureError (a ValueError): as `analysis.capture.capture`; a layout that does not fit among it.
        KeyError: a part that is not in `PARTS`, or a method that is not in `MODULE_METHODS`.
    """
    check_kinds(
        streams=streams, class_names=class_names, adapter=adapter, features=features, clip=clip, note=note,
        probes=probes, mask=mask, steps=steps, layer=layer, pinned=pinned,
    )  # fmt: skip
    refuse_graphs(module)
    if check not in CHECKS:
        raise RecordError(f"check is {check!r}; expected None or 'order'")
    if check == "order" and adapter is None:
        check_key_order(module, inputs, layout=layout, steps=steps)
    view = view_module(
        module, inputs, layout=layout, class_names=class_names, streams=streams, activation=activation, adapter=adapter,
        features=features, clip=clip, chosen=neighbourhood, probes=probes, mask=mask, note=note,
        heads_of_lists=heads_of_lists,
    )  # fmt: skip
    names = check_parts(parts)
    if "explanation" in names and adapter is None:
        if methods is None:
            methods = [name for name in MODULE_METHODS if name != "gradient-received" or "sensitivity" in names]
        check_module_methods(methods)

        def explanations(view: TraceView) -> ClassExplanations:
            position = _target(view, target)
            with evaluating_module(module):
                tokens = view.capabilities.frame_tokens
                known = module_steps(inputs, view.frames, tokens) if steps is None else steps
                score = ModuleScore(module, inputs, known, position, activation == "softmax")
                return explain_module(view, score, methods, progress)

        view = replace(view, capabilities=replace(view.capabilities, explanations=explanations))
    record = record_of(view, layer=layer, layers=layers, parts=parts, progress=record_progress)
    if pinned is None:
        return record
    return record.assign(spatial_attention=spatial_variable(view, record_layers(record), pinned))


def _target(view: TraceView, target: SupportsIndex | str | None) -> int:
    """Position of the class to explain."""
    classes = len(view.vocabulary)
    if not classes:
        raise RecordError(f"{view.model.name} has no classifier: there is no class to explain")
    if target is None:
        return int(view.logits[0].argmax())
    if isinstance(target, str):
        return view.vocabulary.find(target)
    if isinstance(target, bool) or not hasattr(target, "__index__"):
        raise RecordError(f"target is {target!r:.60}; expected the position of a class or its name")
    position = operator.index(target)
    if not 0 <= position < classes:
        raise RecordError(f"target is {position}; the module has classes 0 to {classes - 1}")
    return position

"""The variables of a record: small functions, each from a view of one clip to the arrays that it adds.

Parts of a layer are given its number too. A part that a model does not have (a local branch, gates, attention at all),
or cannot say (`analysis.view.Capabilities`), is absent, never zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.attention.certificates import CHECKS
from analysis.attention.of_view import (
    branch_head_profiles,
    branch_profile,
    branch_unevenness,
    frame_gates,
    gates_weigh_maps,
)
from analysis.attention.similarity import frame_cosine_similarity
from analysis.record.explanation_variables import explanation_variables
from analysis.record.labelled import ClipPart, LayerPart, Variables, by_branch, labelled, maps_of, text
from analysis.record.lanes import Lane
from analysis.record.map_variables import (
    certificate_variables,
    contribution_variables,
    line_variables,
    pattern_variables,
)
from analysis.record.sensitivity_variables import sensitivity_variables
from analysis.view import TraceView, to_numpy
from gmsa_models.branches import COMBINED
from gmsa_models.data.clip import Segment
from gmsa_models.masks import OfClip, Spans, neighbourhood_text
from gmsa_models.segments import spans_of_mask

__all__ = ["CLIP_PARTS", "DEFAULT_PARTS", "LAYER_PARTS", "PARTS", "coordinates"]


def attention_variables(view: TraceView, layer: int = 0) -> Variables:
    """`attention` (modality, branch, head, query, key): weights after the softmax, NaN for heads a branch lacks.

    `attention_outside` (modality, branch, head, query): the share on tokens of no frame; absent where there are none.
    """
    maps = {place: view.layer(place[0], layer).weights[place[1]][0] for place in maps_of(view, layer)}
    if not maps:
        return {}
    values = by_branch(view, layer, maps, (view.heads, view.frames, view.frames))
    dims = ("modality", "branch", "head", "query", "key")
    variables = {"attention": labelled(dims, values, "attention weight", "share of the query's 1")}
    outside = {place: view.layer(place[0], layer).outside.get(place[1]) for place in maps}
    shares = {place: each[0] for place, each in outside.items() if each is not None}
    if shares:
        values = by_branch(view, layer, shares, (view.heads, view.frames))
        meaning = "attention to tokens of no frame"
        variables["attention_outside"] = labelled(dims[:-1], values, meaning, "share of the query's 1")
    return variables


def neighbourhood_variables(view: TraceView) -> Variables:
    """`neighbourhood` (query, key): True where a local branch may attend; absent without one.

    Of the clip's own segments its attribute `spans` says where they start, in frames: "SP0-11-28". Of several local
    branches it is the union, and `branch_neighbourhood` (branch, query, key) is where each branch may attend.
    """
    if view.neighbourhood is None:
        return {}
    mask = to_numpy(view.neighbourhood)
    result = labelled(("query", "key"), mask, "a local branch of the query may attend to the key")
    if isinstance(view.own if view.chosen is None else view.chosen, OfClip | Spans):
        spans = spans_of_mask(view.neighbourhood)
        result.attrs["spans"] = "" if isinstance(spans, tuple) else neighbourhood_text(spans)
    return {"neighbourhood": result} | _branch_neighbourhoods(view)


def _branch_neighbourhoods(view: TraceView) -> Variables:
    layers = [layer for layers in view.layers.values() for layer in layers]
    masks = {
        branch: layer.mask_of(branch) for layer in reversed(layers) for branch in layer.weights if branch != COMBINED
    }
    if sum(mask is not None for mask in masks.values()) < 2:
        return {}
    everywhere = np.ones((view.frames, view.frames), bool)
    each = [everywhere if (mask := masks.get(branch)) is None else to_numpy(mask) for branch in view.branches]
    meaning = "the query's branch may attend to the key"
    return {"branch_neighbourhood": labelled(("branch", "query", "key"), np.stack(each), meaning)}


def similarity_variables(view: TraceView) -> Variables:
    """`similarity` (modality, query, key): cosine of the clip's own features; NaN for a frame that is all zeros.

    NaN throughout for a modality that the clip has no features of; absent where it has none of any.
    """
    known = [modality for modality in view.modalities if modality in view.one.features]
    if not known:
        return {}
    values = np.full((len(view.modalities), view.frames, view.frames), np.nan, np.float32)
    for modality in known:
        features = torch.from_numpy(view.one.floats(modality))
        values[view.modalities.index(modality)] = _similarity(features)
    return {"similarity": labelled(("modality", "query", "key"), values, "cosine similarity of features", "1")}


def profile_variables(view: TraceView, layer: int = 0) -> Variables:
    """`profile` (modality, branch, frame), `head_profile`, and how uneven each profile is."""
    places = maps_of(view, layer)
    if not places:
        return {}

    def array(values: dict[tuple[str, str], Tensor], *shape: int) -> np.ndarray:
        return by_branch(view, layer, values, shape)

    heads = array({at: branch_head_profiles(view, *at, layer)[0] for at in places}, view.heads, view.frames)
    profile = array({at: branch_profile(view, *at, layer)[0] for at in places}, view.frames)
    uneven = {at: branch_unevenness(view, *at, layer) for at in places}
    by_frame, units = ("modality", "branch", "frame"), "1 = uniform attention"
    lane = Lane(units="1 = uniform", reference=1.0, least=0.0, height=64, order=10.0)
    variables = {
        "profile": labelled(by_frame, profile, "attention received", units, lane),
        "head_profile": labelled(
            ("modality", "branch", "head", "frame"), heads, "attention received, head by head", units
        ),
    }
    for field, name, meaning, unit in (
        ("entropy", "profile_entropy", "entropy of profile", "nat"),
        ("relative_entropy", "profile_relative_entropy", "entropy of profile / ln(frames)", "1 = even"),
        ("gini", "profile_gini", "Gini of profile", "0 = even"),
    ):
        values = array({at: getattr(each, field) for at, each in uneven.items()}, 1)[..., 0]
        variables[name] = labelled(("modality", "branch"), values, meaning, unit)
    return variables


def gate_variables(view: TraceView, layer: int = 0) -> Variables:
    """`gate` (modality, branch, frame): R of each branch and query frame, see `mean_gates`; absent without gates.

    Its attribute `averaged_over` says over what. The branches add to 1 in GateOp, in GateAtt at single pairs only.
    """
    gates = {modality: frame_gates(view, modality, layer) for modality in view.modalities}
    placed = {(modality, branch): gate[0] for modality, each in gates.items() for branch, gate in each.items()}
    if not placed:
        return {}
    values = by_branch(view, layer, placed, (view.frames,))
    even = 1.0 / len({branch for _, branch in placed})
    lane = Lane(name="gates", units="mean, 0 to 1", reference=even, order=20.0)
    gate = labelled(("modality", "branch", "frame"), values, "mean gate", "share of 1", lane)
    pairs = any(gates_weigh_maps(view, modality, layer) for modality in view.modalities)
    gate.attrs["averaged_over"] = "heads; global: every key, local: keys inside N_i" if pairs else "features"
    return {"gate": gate}


def score_variables(view: TraceView) -> Variables:
    """`score` (class): probability, the sigmoid of `logit` (class); absent of a model without classes."""
    if not len(view.vocabulary):
        return {}
    logits = view.logits[0].float()
    return {
        "score": labelled(("class",), to_numpy(logits.sigmoid()), "probability", "1"),
        "logit": labelled(("class",), to_numpy(logits), "logit", "nat"),
    }


def label_variables(view: TraceView) -> Variables:
    """`label` (class): True for the clip's labels among the model's classes; attributes hold all of them.

    Absent where the labels are of another data set than the model's classes, or the model has no classes.
    """
    if not view.labelled or not len(view.vocabulary):
        return {}
    known = np.isin(view.vocabulary.indices, view.one.labels)
    return {"label": labelled(("class",), known, "label of the clip")}


def segment_variables(view: TraceView) -> Variables:
    """Known spans: `segment_start`, `segment_end` (seconds, as `frame`), `segment_kind`, `segment_label` (names).

    `segment_origin`: id of the video that the span was made of, "" where it is not known; absent where none is.
    `segment_class` (segment, class): 1 the span shows the class, 0 it was rated absent, NaN not said; absent where the
    labels are of another data set than the model's classes. All are absent where no span is known.
    """
    clip = view.one
    length = clip.frames * clip.frame_seconds
    spans = [segment for segment in clip.segments if segment.start < length]
    if not spans:
        return {}
    starts = np.array([segment.start for segment in spans]) + clip.start_seconds
    ends = np.array([min(segment.end, length) for segment in spans]) + clip.start_seconds
    names = text("; ".join(_shown(view, segment)) for segment in spans)
    kinds = text(segment.kind for segment in spans)
    variables = {
        "segment_start": labelled(("segment",), starts, "start of span", "s"),
        "segment_end": labelled(("segment",), ends, "end of span", "s"),
        "segment_kind": labelled(("segment",), kinds, "event, background or rated"),
        "segment_label": labelled(("segment",), names, "what the span shows"),
    }
    if any(segment.origin for segment in spans):
        origins = text(segment.origin for segment in spans)
        variables["segment_origin"] = labelled(("segment",), origins, "video that the span was made of")
    if not view.labelled:
        return variables
    ratings = labelled(("segment", "class"), _ratings(view, spans), "shows the class", "1 yes, 0 no")
    return variables | {"segment_class": ratings}


LAYER_PARTS: dict[str, LayerPart] = {
    "attention": attention_variables,
    "profile": profile_variables,
    "gate": gate_variables,
    "pattern": pattern_variables,
    "line": line_variables,
    "contribution": contribution_variables,
    "certificate": certificate_variables,
    "sensitivity": sensitivity_variables,
}
CLIP_PARTS: dict[str, ClipPart] = {
    "neighbourhood": neighbourhood_variables,
    "similarity": similarity_variables,
    "score": score_variables,
    "label": label_variables,
    "segment": segment_variables,
    "explanation": explanation_variables,
}

# What a record holds unless told otherwise: all but the parts that run the model again, many times or for checks alone.
DEFAULT_PARTS = (
    "attention",
    "neighbourhood",
    "similarity",
    "profile",
    "gate",
    "pattern",
    "contribution",
    "sensitivity",
    "score",
    "label",
    "segment",
)
PARTS = (*DEFAULT_PARTS, "line", "certificate", "explanation")


def coordinates(view: TraceView, layers: Sequence[int] = (0,)) -> dict[str, xr.DataArray]:
    """One coordinate a dimension; frames (also as query and key) by the second of the video at which they start."""
    seconds = np.asarray(view.one.seconds, np.float64)
    labels = np.asarray(view.vocabulary.indices, np.int64)
    coords = {name: _coordinate(name, seconds, "start of the frame in the video", "s") for name in FRAME_DIMENSIONS}
    return coords | {
        "layer": _coordinate("layer", np.asarray(layers, np.int64), "encoder layer"),
        "modality": _coordinate("modality", text(view.modalities), "stream of the video"),
        "branch": _coordinate("branch", text(view.branches), "branch of the attention block"),
        "head": _coordinate("head", np.arange(view.heads), "attention head"),
        "check": _coordinate("check", text(CHECKS), "what is certified"),
        "class": _coordinate("class", labels, "label of the data set"),
        "class_name": xr.DataArray(text(view.vocabulary.names), dims="class"),
    }


FRAME_DIMENSIONS = ("frame", "query", "key")


def _coordinate(name: str, values: np.ndarray, meaning: str, units: str = "") -> xr.DataArray:
    attributes = {"long_name": meaning} | ({"units": units} if units else {})
    return xr.DataArray(values, dims=name, attrs=attributes)


def _similarity(features: Float[Tensor, "frames dim"]) -> Float[np.ndarray, "frames frames"]:
    nonzero = features.abs().amax(dim=1) > 0
    values = features.new_full((len(features), len(features)), torch.nan)
    if nonzero.any():
        values[nonzero[:, None] & nonzero[None]] = frame_cosine_similarity(features[nonzero]).flatten()
    return values.numpy()


def _shown(view: TraceView, segment: Segment) -> list[str]:
    scores = segment.scores or (1.0,) * len(segment.labels)
    pairs = zip(segment.labels, scores, strict=True)
    return [_label_name(view, label) for label, score in pairs if score > 0]


def _label_name(view: TraceView, label: int) -> str:
    """Name of one of the clip's labels, by the model's classes where these are of the same data set."""
    return view.vocabulary.name(label) if view.labelled else f"label {label} of {view.one.dataset}"


def _ratings(view: TraceView, segments: list[Segment]) -> Float[np.ndarray, "segment class"]:
    values = np.full((len(segments), len(view.vocabulary)), np.nan, np.float32)
    for row, segment in enumerate(segments):
        for label, score in zip(segment.labels, segment.scores or (1.0,) * len(segment.labels), strict=True):
            values[row, list(view.vocabulary.positions([label]))] = score
    return values

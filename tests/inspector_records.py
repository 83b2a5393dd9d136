"""Made-up records for the inspector: numbers that a test can predict, without models and without torch."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

CLASSES = {3: "Game", 5: "Car", 11: "Food", 17: "Dance", 19: "News"}


def made_record(
    frames: int = 29,
    heads: int = 4,
    name: str = "gate-op-tp30",
    branches: tuple[str, ...] = ("global", "local"),
    modalities: tuple[str, ...] = ("visual", "audio"),
    seed: int = 0,
    **attributes,
) -> xr.Dataset:
    """A record with every variable the inspector knows; rows of `attention` sum to 1 inside the branch's mask."""
    generator = np.random.default_rng(seed)
    mask = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames))) <= 3
    shape = (len(modalities), len(branches), heads, frames, frames)
    attention = generator.gamma(0.4, size=shape).astype(np.float32)
    if "local" in branches:
        attention[:, branches.index("local")] *= mask
    attention /= np.maximum(attention.sum(-1, keepdims=True), 1e-30)
    seconds = np.arange(frames, dtype=float)
    pairs = (len(modalities), frames, frames)
    time = (len(modalities), len(branches), frames)
    sensitivity = generator.uniform(0.3, 0.9, (len(modalities), frames)).astype(np.float32)
    sensitivity[:, 5:9] = np.nan
    features = np.random.default_rng(7).normal(size=(frames, 7))  # of the clip, whichever model looked at it
    similarity = np.tril(np.corrcoef(features), -1) if frames > 1 else np.zeros((frames, frames))
    similarity = similarity + similarity.T + np.eye(frames)
    record = xr.Dataset(
        {
            "attention": (("modality", "branch", "head", "query", "key"), attention),
            "neighbourhood": (("query", "key"), mask),
            "similarity": (("modality", "query", "key"), np.broadcast_to(similarity, pairs).astype(np.float32)),
            "profile": (("modality", "branch", "frame"), generator.gamma(2.0, size=time).astype(np.float32)),
            "gate": (("modality", "branch", "frame"), np.full(time, 0.5, np.float32)),
            "gate_map": (("modality", "query", "key"), generator.uniform(size=pairs).astype(np.float32)),
            "verticality": (("modality", "branch", "head"), np.full(shape[:3], 0.75, np.float32)),
            "gradient_norm": (("modality", "query", "key"), generator.gamma(2.0, size=pairs).astype(np.float32)),
            "sensitivity": (("modality", "frame"), sensitivity),
            "score": ("class", np.array([0.5, 0.25, 0.9, 0.1, 0.01], np.float32)),
            "label": ("class", np.array([False, False, True, False, True])),
            "segment_start": ("segment", np.array([2.0, 9.0], np.float32)),
            "segment_end": ("segment", np.array([9.0, 14.0], np.float32)),
            "segment_kind": ("segment", np.array(["event", "background"], dtype=object)),
            "segment_label": ("segment", np.array(["Food", ""], dtype=object)),
            "segment_class": (("segment", "class"), np.array([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], np.float32)),
        },
        {
            "modality": np.array(modalities, dtype=object),
            "branch": np.array(branches, dtype=object),
            "head": np.arange(heads),
            "query": seconds,
            "key": seconds,
            "frame": seconds,
            "class": np.array(list(CLASSES)),
            "class_name": ("class", np.array(list(CLASSES.values()), dtype=object)),
            "model": np.array(name, dtype=object),
        },
    )
    record.attrs = {
        "checkpoint_name": name,
        "attention_kind": "gate-op",
        "layer": 0,
        "clip": "demo-0007",
        "source": "made up",
        "features_sha256": "0" * 64,
        "label_names": json.dumps(["Food", "News"]),
        "frame_seconds": 1.0,
        "clip_frames": frames,
    } | attributes
    return record


def explained_record(**changes) -> xr.Dataset:
    """`made_record` with the part "explanation": two methods, the second of one modality only."""
    record = made_record(**changes)
    values = np.random.default_rng(3).normal(size=(2, record.sizes["modality"], record.sizes["frame"]))
    values[1, 1:] = np.nan
    explainers = {"explainer": np.array(["saliency", "rollout"], dtype=object)}
    measures = explainers | {"measure": np.array(["deletion", "insertion", "evidence_auc"], dtype=object)}
    faithful = np.array([[0.25, 0.75, np.nan], [0.5, 0.625, 0.875]], np.float32)
    about = {"class_name": "Food", "label": 11, "target": 2, "baseline": "mean"}
    explanation = xr.DataArray(values.astype(np.float32), explainers, ("explainer", "modality", "frame"), attrs=about)
    return record.assign(
        explanation=explanation, faithfulness=xr.DataArray(faithful, measures, ("explainer", "measure"))
    )


def layered_record(layers: int, **changes) -> xr.Dataset:
    """`made_record` of several layers, each with maps and curves of its own."""
    each = [made_record(seed=seed, **changes) for seed in range(layers)]
    of_layer = ("attention", "profile", "gate", "gate_map", "verticality", "gradient_norm", "sensitivity")
    joined = {
        name: xr.concat([one[name] for one in each], "layer").transpose("layer", *each[0][name].dims)
        for name in of_layer
    }
    return each[0].assign(joined).assign_coords(layer=np.arange(layers))

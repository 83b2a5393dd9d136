"""Tiny records and tables as the figures get them: made by hand, no torch, no model. Sizes are distinct primes."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

FRAMES, HEADS, CLASSES = 11, 5, 7
MODALITIES = ("visual", "audio")


def tiny_record(model: str = "baseline", branches: tuple[str, ...] = ("global",), seed: int = 0) -> xr.Dataset:
    """A record whose maps are not symmetric: query i gives key j the weight of (i + 1) * (j + 2)^2, plus noise."""
    rng = np.random.default_rng(seed)
    row, column = np.arange(FRAMES)[:, None], np.arange(FRAMES)[None, :]
    maps = (row + 1) * (column + 2) ** 2 * (1 + rng.random((len(MODALITIES), len(branches), HEADS, FRAMES, FRAMES)))
    maps /= maps.sum(-1, keepdims=True)
    similarity = rng.random((len(MODALITIES), FRAMES, FRAMES))
    head_profile = maps.sum(-2)
    scores = rng.random(CLASSES)
    record = xr.Dataset(
        {
            "attention": (("modality", "branch", "head", "query", "key"), maps),
            "similarity": (("modality", "query", "key"), (similarity + similarity.transpose(0, 2, 1)) / 2),
            "profile": (("modality", "branch", "frame"), head_profile.mean(2)),
            "head_profile": (("modality", "branch", "head", "frame"), head_profile),
            "verticality": (("modality", "head"), rng.random((len(MODALITIES), HEADS))),
            "score": ("class", scores),
            "label": ("class", np.arange(CLASSES) == 3),
            "segment_start": ("segment", [0.0, 4.0, 7.0]),
            "segment_end": ("segment", [4.0, 7.0, 11.0]),
            "segment_kind": ("segment", np.array(["background", "event", "background"])),
            "segment_label": ("segment", np.array(["", "Food", ""])),
        },
        {name: np.arange(FRAMES, dtype=float) for name in ("frame", "query", "key")}
        | {
            "modality": np.array(MODALITIES),
            "branch": np.array(branches),
            "head": np.arange(HEADS),
            "class": np.arange(CLASSES),
            "class_name": ("class", np.array([f"class {index}" for index in range(CLASSES)])),
            "model": model,
        },
    )
    return record.assign_attrs(
        clip="clip0",
        features_sha256="ab",
        attention_kind="baseline" if branches == ("global",) else "gate-op",
        frame_seconds=1.0,
        label_names=json.dumps(["class 3"]),
        checkpoint_sha256="00",
    )


def tiny_contrasts(found: int = 1) -> xr.Dataset:
    """Two GateOps against Baseline."""
    return xr.Dataset(
        {
            "wins": ("model", [13, 5]),
            "losses": ("model", [7, 11]),
            "videos": ("model", [101, 101]),
            "p_value": ("model", [0.26, 0.21]),
        },
        {"model": np.array(["gate-op-bd20", "gate-op-tp30"])},
        {"rule": "by the rule", "chosen": "gate-op-bd20", "found": found},
    )


def tiny_curves() -> xr.Dataset:
    """Three models over 11 frames; Baseline has no neighbourhood of its own."""
    models, kinds = ["baseline", "share-att-bd", "gate-op-tp30"], ["baseline", "share-att", "gate-op"]
    values = np.random.default_rng(1).uniform(0.4, 0.9, (3, FRAMES))
    own = np.where(np.array(kinds)[:, None] == "baseline", np.nan, values - 0.1)
    parts = {"shared": values, "own": own}
    data = {
        f"{name}{end}": (("model", "frame"), value + shift)
        for name, value in parts.items()
        for end, shift in (("", 0.0), ("_low", -0.05), ("_high", 0.05))
    }
    about = {"videos": 13, "modality": "visual", "neighbourhood": "TP30"}
    coords = {"model": np.array(models), "kind": ("model", np.array(kinds)), "frame": np.arange(FRAMES, dtype=float)}
    return xr.Dataset(data, coords, about)


def tiny_scatter() -> xr.Dataset:
    """Scores and sensitivities of three models."""
    data = {
        "gap": [40.0, 42.0, 45.0],
        "shared": [0.6, 0.7, 0.9],
        "own": [np.nan, 0.65, 0.8],
    }
    reach = {"gap": 2.0, "shared": 0.05, "own": 0.03}
    values = {
        f"{name}{end}": ("model", np.array(value) + sign * reach[name])
        for name, value in data.items()
        for end, sign in (("", 0), ("_low", -1), ("_high", 1))
    }
    about = {f"{kind}_{name}": 0.5 for kind in ("shared", "own") for name in ("rho", "low", "high", "p_value")}
    about |= {"shared_models": 3, "own_models": 2, "own_rho": float("nan"), "neighbourhood": "TP30"}
    models = np.array(["baseline", "gate-att-tp10", "gate-op-tp30"])
    return xr.Dataset(values, {"model": models}, about | {"videos": 13, "scored": 101})


def tiny_masks() -> xr.Dataset:
    """Patterns that are not symmetric, so that a swapped axis shows."""
    mask = np.zeros((2, 7, 7), bool)
    mask[0, 2, 3:6] = True
    mask[1, 2, ::3] = True
    names = np.array(["one, A3", "two"])
    return xr.Dataset({"mask": (("pattern", "query", "key"), mask)}, {"pattern": names}, {"frame": 2})


def tiny_masses() -> xr.Dataset:
    """Masses by lag of two models."""
    lags = np.arange(FRAMES, dtype=float)
    even = 2.0 * (FRAMES - lags)
    even[0] = FRAMES
    near = np.exp(-lags / 3)
    masses = np.stack([near / near.sum(), even / even.sum()])
    return xr.Dataset(
        {
            "attention": (("model", "lag"), masses),
            "gradient": (("model", "lag"), masses[::-1]),
            "uniform": ("lag", even / even.sum()),
        },
        {"model": np.array(["share-att-tp", "baseline"]), "lag": lags},
        {"videos": 13, "modality": "visual"},
    )


def tiny_results() -> xr.Dataset:
    """Table 1 of two of the paper's columns and the control."""
    scores = np.array([[40.0, 20.0, 41.0, 60.0], [44.0, 19.0, 43.0, 66.0], [30.0, 12.0, 31.0, 50.0]])
    published = np.array([[85.07, 44.61, 78.97, 87.75], [86.13, 47.49, 80.1, 88.49], [np.nan] * 4])
    return xr.Dataset(
        {
            "score": (("model", "metric"), scores),
            "low": (("model", "metric"), scores - 1),
            "high": (("model", "metric"), scores + 1),
            "published": (("model", "metric"), published),
            "time": ("model", [1.0, 1.4, np.nan]),
            "published_time": ("model", [1.0, 1.14, np.nan]),
            "size": ("model", [1.39, 1.62, 1.07]),
            "published_size": ("model", [48.9, 61.0, np.nan]),
        },
        {
            "model": np.array(["baseline", "gate-op-tp30", "control"]),
            "metric": np.array(["gap", "map", "perr", "hit_at_1"]),
        },
        {"videos": 101},
    )


def tiny_claims() -> xr.Dataset:
    """Two claims, one of them with a number that only informs."""
    return xr.Dataset(
        {
            "claim": ("part", np.array(["C1", "C4", "C4"])),
            "statement": ("part", np.array(["A > B", "lines", "lines"])),
            "verdict": ("part", np.array(["undecided", "confirmed", "confirmed"])),
            "sample": ("part", np.array(["101 videos", "13 videos", "13 videos"])),
            "what": ("part", np.array(["GAP of A less B", "share", "top share"])),
            "short": ("part", np.array(["A − B", "visual", "visual"])),
            "sign": ("part", np.array([">", ">", ""])),
            "estimate": ("part", [-1.5, 0.25, 0.6]),
            "low": ("part", [-3.0, 0.2, np.nan]),
            "high": ("part", [0.5, 0.3, np.nan]),
            "p_value": ("part", [np.nan, 0.012, np.nan]),
        },
        attrs={"about": "2 models on 101 videos."},
    )


def tiny_evidence() -> xr.Dataset:
    """Three explanations of two models; Baseline has no local attention."""
    auc = np.array([[0.9, 0.4, np.nan], [0.8, 0.5, 0.6]])
    return xr.Dataset(
        {
            name: (("model", "explainer"), auc + shift)
            for name, shift in (("auc", 0), ("auc_low", -0.2), ("auc_high", 0.1))
        },
        {
            "model": np.array(["baseline", "gate-op-bd20"]),
            "explainer": np.array(["saliency", "random", "attention-local"]),
        },
        {"videos": 3, "frames": 60, "of": "demo"},
    )


def tiny_costs() -> xr.Dataset:
    """Two models; Baseline has no local branch."""
    cost = np.array([[[7.0, np.nan, 3.0], [2.0, np.nan, -1.0]], [[5.0, 1.0, 0.5], [4.0, 0.0, 0.25]]])
    return xr.Dataset(
        {
            name: (("model", "modality", "part"), cost + shift)
            for name, shift in (("cost", 0), ("low", -1), ("high", 2))
        },
        {
            "model": np.array(["baseline", "gate-op-bd20"]),
            "modality": np.array(MODALITIES),
            "part": np.array(["global branch", "local branch", "head 0"]),
        },
        {"videos": 64, "of": "demo"},
    )


def tiny_lines() -> xr.Dataset:
    """Three models of three heads; ShareAtt lacks the last, Baseline and ShareAtt have no gates."""
    models = np.array(["baseline", "share-att-tp", "gate-op-bd20"])
    verdicts = np.array([
        [["salient", "no-op", "undecided"], ["broadcast", "no lines", "salient"]],
        [["undecided", "broadcast", ""], ["salient", "salient", ""]],
        [["salient", "salient", "no-op"], ["broadcast", "broadcast", "undecided"]],
    ])  # fmt: skip
    absent = (verdicts == "") | (verdicts == "no lines")
    numbers = np.where(absent, np.nan, np.linspace(0.2, 1.4, verdicts.size).reshape(verdicts.shape))
    heads = {name: numbers * scale for name, scale in (("norm_ratio", 1.0), ("shared", 0.5))}
    gate = np.array([[np.nan, np.nan], [np.nan, np.nan], [0.05, -0.02]])
    ends = (("", 0.0), ("_low", -0.1), ("_high", 0.2))
    return xr.Dataset(
        {
            f"{name}{end}": (("model", "modality", "head"), each + shift)
            for name, each in heads.items()
            for end, shift in ends
        }
        | {f"gate{end}": (("model", "modality"), gate + shift / 10) for end, shift in ends}
        | {"verdict": (("model", "modality", "head"), verdicts)},
        {"model": models, "modality": np.array(MODALITIES), "head": np.arange(3)},
        {"videos": 13, "frames": 150, "of": "demo"},
    )


def tiny_effects() -> xr.Dataset:
    """Two models; Baseline has no local branch."""
    panels = ["branch"] * 2 + ["window"] * 4 + ["local"] * 2
    rows = ["global", "local", "global, label", "global, other", "local, label", "local, other", "label missed",
            "label found"]  # fmt: skip
    effect = np.array([[-2.0, np.nan, -1.0, -0.1, np.nan, np.nan, np.nan, np.nan], -np.arange(8.0) / 4])
    return xr.Dataset(
        {name: (("model", "row"), effect + shift) for name, shift in (("effect", 0), ("low", -0.5), ("high", 0.25))},
        {"model": np.array(["baseline", "gate-op-bd20"]), "row": np.array(rows), "panel": ("row", np.array(panels))},
        {"videos": 12, "frames": 60, "of": "demo"},
    )

"""What the vertical lines of a model's maps are, over a study's videos: the numbers behind claim C4 and Figure 10."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int

from analysis.attention.of_view import branch_line_values, line_gate
from analysis.attention.sinks import LineValues
from analysis.gmsa_view import view_clips
from analysis.statistics.intervals import mean_interval
from analysis.statistics.line_verdicts import head_verdict, shared_parts
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import standard_contexts

__all__ = ["line_statistics", "line_table", "line_verdicts"]

FIELDS = ("lines", "norm_ratio", "first_direction")


def line_statistics(
    model: GMSAClassifier,
    clips: Sequence[Clip],
    branch: str = "global",
    layer: int = 0,
    progress: Callable[[int], None] = lambda clips: None,
) -> xr.Dataset:
    """The lines of every head in every clip, and the values that stand there.

    Args:
        model: with attention, all heads of which have maps of the branch.
        clips: at least one.
        branch: whose maps.
        layer: which encoder layer.
        progress: called after each clip with 1.

    Returns:
        Over (video, modality, head): `lines`, how many; `norm_ratio`, the norm of their values by the median frame's;
        `shared`, how much of their value all videos share, see `shared_parts`; `first_direction`, see `LineValues`;
        `gate`, the local gate at the lines of the global branch less elsewhere, NaN without gates. NaN where a head has
        no line in a video.
    """
    modalities = list(model.config.modalities)
    each: dict[str, list[LineValues]] = {name: [] for name in modalities}
    gates: dict[str, list[np.ndarray]] = {name: [] for name in modalities}
    heads: list[int] = []
    for clip in clips:
        with standard_contexts():
            view = view_clips(model, [clip])
        for name in modalities:
            values = branch_line_values(view, name, branch, layer)
            assert values is not None  # of a GMSA model
            each[name].append(values)
            gate = line_gate(view, name, layer) if branch == "global" else None
            gates[name].append(np.full(values.lines.shape, np.nan) if gate is None else gate.double().cpu().numpy())
            heads = list(range(view.heads))[view.layer(name, layer).heads_of(branch)]
        progress(1)
    arrays = {field: np.stack([_joined(each[name], field) for name in modalities], 1) for field in FIELDS} | {
        "shared": np.stack([_shared(each[name]) for name in modalities], 1),
        "gate": np.stack([np.concatenate(gates[name]) for name in modalities], 1),
    }
    return xr.Dataset(
        {field: (("video", "modality", "head"), values) for field, values in arrays.items()},
        {"video": np.array([clip.id for clip in clips]), "modality": np.array(modalities), "head": np.array(heads)},
    )


def line_table(tables: Mapping[str, xr.Dataset], counts: Int[np.ndarray, "resamples videos"]) -> xr.Dataset:
    """What the lines of several models are, and what their gates do there: the numbers of Figure 10.

    Args:
        tables: model -> `line_statistics` of the same videos.
        counts: of `resample_counts` of the videos.

    Returns:
        Over (model, modality, head) what `line_verdicts` gives, "" and NaN for heads that a model lacks; over (model,
        modality) `gate` with `_low` and `_high`, a video's mean over the heads that have lines in it.
    """
    parts = []
    for statistics in tables.values():
        verdicts = line_verdicts(statistics, counts)
        gate = statistics["gate"].mean("head").transpose("modality", "video").values
        known = [mean_interval(row, counts) if not np.isnan(row).all() else None for row in gate]
        ends = {"gate": "estimate", "gate_low": "low", "gate_high": "high"}
        columns = {
            name: ("modality", np.array([np.nan if one is None else getattr(one, end) for one in known]))
            for name, end in ends.items()
        }
        parts.append(verdicts.assign(columns))
    fill = {"verdict": "", **{name: np.nan for name in parts[0].data_vars if name != "verdict"}}
    joined = xr.concat(parts, "model", join="outer", fill_value=fill)
    return joined.assign_coords(model=np.array(list(tables)))


def line_verdicts(statistics: xr.Dataset, counts: Int[np.ndarray, "resamples videos"]) -> xr.Dataset:
    """Salient, no-op or broadcast: a verdict for each head, with its intervals.

    Args:
        statistics: of `line_statistics`.
        counts: of `resample_counts` of its videos.

    Returns:
        Over (modality, head): `verdict`; `norm_ratio` and `shared`, each with `_low` and `_high`; `videos` with a line.
    """
    places = [(name, head) for name in statistics["modality"].values for head in range(statistics.sizes["head"])]
    verdicts = []
    for name, head in places:
        one = statistics.sel(modality=name).isel(head=head)
        verdicts.append(head_verdict(one["norm_ratio"].to_numpy(), one["shared"].to_numpy(), counts))
    columns: dict[str, list[object]] = {
        "verdict": [each.verdict for each in verdicts], "videos": [each.videos for each in verdicts],
    }  # fmt: skip
    for name in ("norm_ratio", "shared"):
        intervals = [getattr(each, name) for each in verdicts]
        for field, end in (("estimate", ""), ("low", "_low"), ("high", "_high")):
            columns[f"{name}{end}"] = [getattr(one, field) for one in intervals]
    shape = (statistics.sizes["modality"], statistics.sizes["head"])
    return xr.Dataset(
        {name: (("modality", "head"), np.array(values).reshape(shape)) for name, values in columns.items()},
        {"modality": statistics["modality"].values, "head": statistics["head"].values},
    )


def _joined(values: Sequence[LineValues], field: str) -> np.ndarray:
    return torch.cat([getattr(one, field) for one in values]).double().cpu().numpy()


def _shared(values: Sequence[LineValues]) -> np.ndarray:
    at_lines, elsewhere = _joined(values, "at_lines"), _joined(values, "elsewhere")
    return np.stack([shared_parts(at_lines[:, head], elsewhere[:, head]) for head in range(at_lines.shape[1])], 1)

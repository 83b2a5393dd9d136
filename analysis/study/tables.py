"""The table behind each figure: what is drawn, and nothing else. Keys are the parameters of the figure's `draw`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import xarray as xr

from analysis.attention.lags import uniform_mass_by_lag
from analysis.gmsa_view import view_clips
from analysis.inspect.clips import inspect_clip
from analysis.record.assemble import record_of
from analysis.statistics.families import family_correlation
from analysis.statistics.intervals import (
    mean_ends,
    mean_interval,
    resample_counts,
    resampled_means,
)
from analysis.statistics.jackknife import jackknife_interval
from analysis.study import claims
from analysis.study.contrast import RULE
from analysis.study.effects import ROWS, correction_of_global, effect_rows
from analysis.study.explained import in_order
from analysis.study.lines import line_table
from analysis.study.passes import global_verticality
from analysis.study.results import results_table, scored_text
from analysis.study.seeds.figure_tables import claims_by_task, local_attention
from analysis.study.study import Settings, Study
from analysis.study.swept import SweptStudy
from gmsa_models.data.demo_videos import is_demo
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import (
    BlockDiagonal,
    Neighbourhood,
    Toeplitz,
    ToeplitzDilated,
    neighbourhood_mask,
    neighbourhood_text,
)

__all__ = ["TABLES", "Tables", "results", "score_and_sensitivity", "sensitivity", "tables_of", "with_origin"]

Tables = dict[str, xr.Dataset]

MASK_FRAMES = 60
MASKS: dict[str, Neighbourhood] = {
    "block diagonal, BD20": BlockDiagonal(20),
    "Toeplitz, TP30": Toeplitz(30),
    "Toeplitz, dilated, TD60×4": ToeplitzDilated(60, dilation=4),
}
SHOWN_HEADS = 3
MADE = (
    "The demo videos are montages made from statistics of YouTube-8M, with shots that stay alike by construction "
    "(so C5 only checks the montage): what they show is about the demo."
)


def similarity_and_attention(study: Study) -> Tables:
    """Figure 1: Baseline's record of the video of Figure 3, with the three heads of each modality that are drawn."""
    _, clip = study.clearest_contrast
    view = view_clips(study.model(study.baseline), [clip])
    record = record_of(view, parts=("attention", "similarity", "profile", "segment"))
    lines = global_verticality(view)["verticality"]
    kept = _few_heads(record.drop_vars("segment_class", errors="ignore")).assign(verticality=lines)
    return {"record": _small(kept)}


def masks(
    study: Study | None = None, patterns: Mapping[str, Neighbourhood] = MASKS, frames: int = MASK_FRAMES
) -> Tables:
    """Figure 2: the patterns over so many frames of a second each, and the frame whose N_i is marked."""
    values = np.stack([neighbourhood_mask(each, frames).numpy() for each in patterns.values()])
    table = xr.Dataset(
        {"mask": (("pattern", "query", "key"), values)},
        {"pattern": np.array(list(patterns)), "query": np.arange(frames), "key": np.arange(frames)},
        {"frame": frames // 2 - 5},
    )
    return {"masks": table}


def attention_profiles(study: Study) -> Tables:
    """Figure 3: records of Baseline and of the GateOp that is clearest against it, and all contrasts."""
    chosen, clip = study.clearest_contrast
    parts = ("profile", "score", "label", "segment")
    records = [inspect_clip(study.model(name), clip, parts=parts) for name in (study.baseline, chosen.model)]
    rows = [asdict(each) for each in study.contrasts.values()]
    fields = ("margin", "wins", "losses", "videos", "p_value")
    contrasts = xr.Dataset(
        {name: ("model", np.array([row[name] for row in rows])) for name in fields},
        {"model": np.array([row["model"] for row in rows])},
        {"rule": RULE, "chosen": chosen.model, "found": int(chosen.video is not None)},
    )
    unused = ["head_profile", "segment_class", "logit"]
    drawn = [record.drop_vars(unused, errors="ignore").drop_dims("head", errors="ignore") for record in records]
    return {"baseline": drawn[0], "other": drawn[1], "contrasts": contrasts}


def sensitivity(study: Study | SweptStudy) -> Tables:
    """Figure 4: mean S_i over videos with intervals, by one neighbourhood for all models and by each model's own."""
    settings, parts = study.settings, []
    videos, counts = _resampled(study.statistics, settings)
    for table in study.statistics.values():
        drawn: dict[str, np.ndarray] = {}
        for source, target in (("sensitivity", "shared"), ("own_sensitivity", "own")):
            if source in table:
                drawn |= _curve(table[source].transpose("video", "frame").values, counts, target)
        variables = {target: ("frame", values) for target, values in drawn.items()}
        parts.append(xr.Dataset(variables, {"frame": table["frame"].values}))
    curves = xr.concat(_filled(parts), "model", join="outer")
    about = {
        "videos": videos,
        "modality": settings.modality,
        "neighbourhood": neighbourhood_text(study.settings.neighbourhood),
    }
    names = list(study.statistics)
    kinds = np.array([study.kind(name) for name in names])
    return {"curves": curves.assign_coords(model=np.array(names), kind=("model", kinds)).assign_attrs(about)}


def score_and_sensitivity(study: Study | SweptStudy) -> Tables:
    """Figure 5: GAP against mean S of every model, with intervals over videos, and the rank correlations."""
    videos, counts = _resampled(study.mean_sensitivity, study.settings)
    rows = []
    for name, table in study.mean_sensitivity.items():
        row = {"gap": float(study.metrics[name]["estimate"].sel(metric="gap"))}
        gap = jackknife_interval(row["gap"], study.metrics[name]["without"].sel(metric="gap").values)
        row |= {"gap_low": gap.low, "gap_high": gap.high}
        for source, target in (("sensitivity", "shared"), ("own_sensitivity", "own")):
            if source in table and bool(table[source].notnull().any()):
                interval = mean_interval(table[source].values, counts)
                row |= {target: interval.estimate, f"{target}_low": interval.low, f"{target}_high": interval.high}
        rows.append(row)
    names = [f"{what}{end}" for what in ("gap", "shared", "own") for end in ("", "_low", "_high")]
    table = xr.Dataset(
        {name: ("model", np.array([row.get(name, np.nan) for row in rows])) for name in names},
        {"model": np.array(list(study.mean_sensitivity))},
        {
            "videos": videos,
            "scored": study.videos,
            "neighbourhood": neighbourhood_text(study.settings.neighbourhood),
        },
    )
    return {"table": table.assign_attrs(_correlations(table, _families(study), study.settings.seed))}


def lag(study: Study) -> Tables:
    """Figure 6: share of attention and of gradient norm at each lag, mean over videos, a model a row."""
    modality, parts = study.settings.modality, []
    for table in study.statistics.values():
        source = str(table.attrs["gradient_modality"])
        attention = table["attention_by_lag"].sel(modality=source).mean("video").values
        gradient = table["gradient_by_lag"].mean("video").values
        variables = {"attention": ("lag", attention), "gradient": ("lag", gradient)}
        parts.append(xr.Dataset(variables, {"lag": table["lag"].values}))
    if not parts:
        raise ArgumentError("no model with attention; this figure needs one")
    joined = xr.concat(parts, "model", join="outer").assign_coords(model=np.array(list(study.statistics)))
    uniform = uniform_mass_by_lag(joined.sizes["lag"])
    about = {"videos": len(study.clips), "modality": modality}
    return {"masses": joined.assign(uniform=("lag", uniform)).assign_attrs(about)}


def evidence(study: Study) -> Tables:
    """Figure 7: how well each explanation of each model finds the label's seconds, means over videos with intervals."""
    tables = study.evidence
    videos = next(iter(tables.values())).sizes["video"]
    counts = resample_counts(videos, study.settings.resamples, study.settings.seed)
    parts = []
    for table in tables.values():
        of_explainers = [
            mean_interval(each, counts) for each in table["evidence_auc"].transpose("explainer", "video").values
        ]
        ends = {"auc": "estimate", "auc_low": "low", "auc_high": "high"}
        drawn = {
            name: ("explainer", np.array([getattr(each, end) for each in of_explainers])) for name, end in ends.items()
        }
        measures = ("evidence_precision", "pointing")
        means = {name: ("explainer", table[name].mean("video").values) for name in measures}
        parts.append(xr.Dataset(drawn | means, {"explainer": table["explainer"].values}))
    joined = xr.concat(parts, "model", join="outer").assign_coords(model=np.array(list(tables)))
    order = in_order([str(name) for name in joined["explainer"].values])
    about = {"videos": videos, "frames": study.settings.explained_frames}
    return {"found": joined.sel(explainer=order).assign_attrs(about)}


def ablation(study: Study) -> Tables:
    """Figure 8: GAP lost by ablating each branch and head of each model, with intervals over videos."""
    tables = study.ablations
    if not tables:
        raise ArgumentError("no model with attention; this figure needs one")
    joined = xr.concat(list(tables.values()), "model", join="outer", combine_attrs="drop")
    parts = sorted((str(name) for name in joined["part"].values), key=lambda name: ("branch" not in name, name))
    costs = joined.sel(part=parts).assign_coords(model=np.array(list(tables)))
    return {"costs": costs.assign_attrs(videos=next(iter(tables.values())).attrs["videos"])}


def what_if(study: Study) -> Tables:
    """Figure 9: what knocking out each branch, and windows of it, does to a label's logit, with intervals over videos.

    Attributes `missed`, `found` and `difference`, each with `_low` and `_high`: see `correction_of_global`.
    """
    tables = study.effects
    if not tables:
        raise ArgumentError("no model with attention; this figure needs one")
    videos, counts = _resampled(tables, study.settings)
    rows = [(panel, row) for panel, texts in ROWS.items() for row in texts]
    about: dict[str, int | float] = {"videos": videos, "frames": study.settings.explained_frames}
    for name, each in correction_of_global(tables, counts).items():
        about |= {name: each.estimate, f"{name}_low": each.low, f"{name}_high": each.high}
    effects = xr.Dataset(
        {name: (("model", "row"), values) for name, values in effect_rows(tables, counts).items()},
        {
            "model": np.array(list(tables)),
            "row": np.array([row for _, row in rows]),
            "panel": ("row", np.array([panel for panel, _ in rows])),
        },
        about,
    )
    return {"effects": effects}


def vertical_lines(study: Study) -> Tables:
    """Figure 10: what the vertical lines of each head are, and what the gates do there, with intervals over videos."""
    if not study.lines:
        raise ArgumentError("no model with attention; this figure needs one")
    videos, counts = _resampled(study.lines, study.settings)
    about = {"videos": videos, "frames": study.selection.frames}
    return {"lines": line_table(study.lines, counts).assign_attrs(about)}


def results(study: Study | SweptStudy) -> Tables:
    """Table 1."""
    sizes = {name: study.mebibytes(name) for name in study.models}
    kinds = {name: study.kind(name) for name in study.models}
    return {"table": results_table(study.metrics, kinds, sizes, study.steps, study.videos, study.unlabelled)}


def claim_rows(study: Study) -> Tables:
    """Claims C1 to C5."""
    seed, resamples = study.settings.seed, study.settings.resamples
    kinds = {name: study.kind(name) for name in study.models}
    gap = {name: float(table["estimate"].sel(metric="gap")) for name, table in study.metrics.items()}
    results = [
        claims.order_of_scores(study.metrics, kinds, study.videos),
        claims.locality_and_score(study.statistics, gap, kinds, seed),
        claims.uneven_global_profile(study.statistics, seed, resamples),
        claims.vertical_lines(study.statistics[study.baseline], seed, resamples, study.lines[study.baseline]),
        claims.neighbours_alike(study.clip_table, seed, resamples),
    ]
    about = (
        f"{len(study.models)} models on {scored_text(study.videos, study.unlabelled)} of `{', '.join(study.source)}`"
    )
    close = f"maps and gradients on the first {study.selection.frames} frames of {len(study.clips)} of them"
    made = f" {MADE}" if any(is_demo(one) for one in study.source) else ""
    return {"claims": claims.claims_table(results).assign_attrs(about=f"{about}; {close}.{made}")}


TABLES: dict[str, Callable[..., Tables]] = {
    "similarity_and_attention": similarity_and_attention,
    "masks": masks,
    "attention_profiles": attention_profiles,
    "sensitivity": sensitivity,
    "score_and_sensitivity": score_and_sensitivity,
    "lag": lag,
    "evidence": evidence,
    "ablation": ablation,
    "what_if": what_if,
    "vertical_lines": vertical_lines,
    "results": results,
    "claims": claim_rows,
    "local_attention": lambda study: local_attention(),
    "claims_by_task": lambda study: claims_by_task(),
}


def tables_of(key: str, study: Study | None) -> Tables:
    """The tables of one figure; each says in its attribute `of` whether its videos are "demo" ones.

    Raises:
        KeyError: not in `TABLES`.
    """
    return with_origin(TABLES[key](study), study)


def with_origin(tables: Tables, study: Study | SweptStudy | None) -> Tables:
    """The tables, each with the attribute `of`: "demo" where every source is of the demo.

    Tables of models that are not called like a column of the paper have `variants` too, as JSON: name -> the column in
    whose style the model is drawn.
    """
    source = () if study is None else study.source
    about = {"of": "demo" if bool(source) and all(is_demo(one) for one in source) else ""}
    variants = {} if study is None else {name: like for name, like in study.variants.items() if name != like}
    if variants:
        about["variants"] = json.dumps(variants, ensure_ascii=False)
    return {name: table.assign_attrs(about) for name, table in tables.items()}


def _few_heads(record: xr.Dataset) -> xr.Dataset:
    """Only the heads whose profile varies most keep their maps, in each modality: those that the figure shows."""
    spread = record["head_profile"].sel(branch="global").std("frame").transpose("modality", "head")
    places = np.argsort(np.argsort(-spread.values, axis=1, kind="stable"), axis=1)
    return record.assign(attention=record["attention"].where(spread.copy(data=places) < SHOWN_HEADS))


def _small(record: xr.Dataset) -> xr.Dataset:
    """Maps in half precision: finer than any colour, and half the file."""
    return record.assign({name: record[name].astype(np.float16) for name in ("attention", "similarity")})


def _curve(values: np.ndarray, counts: np.ndarray, name: str) -> dict[str, np.ndarray]:
    mean = resampled_means(values, np.ones((1, len(values)), np.int64))[0]
    low, high = mean_ends(values, counts)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _filled(parts: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Every table with the variables that any has, NaN where it has none."""
    names = dict.fromkeys(name for part in parts for name in part.data_vars)
    empty = [{name: xr.full_like(part["shared"], np.nan) for name in names if name not in part} for part in parts]
    return [part.assign(more) for part, more in zip(parts, empty, strict=True)]


def _resampled(tables: Mapping[str, xr.Dataset], settings: Settings) -> tuple[int, np.ndarray]:
    """How many videos the tables are of, and bootstrap samples of them."""
    if not tables:
        raise ArgumentError("no model with attention; this figure needs one")
    videos = next(iter(tables.values())).sizes["video"]
    return videos, resample_counts(videos, settings.resamples, settings.seed)


def _families(study: Study | SweptStudy) -> list[str] | None:
    """Attention block of each model; None where a sweep's files are not at hand, which say it."""
    if isinstance(study, SweptStudy) and study.unknown:
        return None
    return [study.kind(name) for name in study.mean_sensitivity]


def _correlations(table: xr.Dataset, families: Sequence[str] | None, seed: int) -> dict[str, float]:
    """Rank correlation of GAP and mean S over families, as attributes; NaN where they are too few or not known."""
    about: dict[str, float] = {}
    for name in ("shared", "own"):
        present = ~np.isnan(table[name].values)
        values, gaps = table[name].values, table["gap"].values
        correlation = None if families is None else family_correlation(values, gaps, families, seed)
        for field in ("rho", "low", "high", "p_value"):
            about[f"{name}_{field}"] = float("nan") if correlation is None else getattr(correlation, field)
        about[f"{name}_models"] = int(present.sum())
        about[f"{name}_families"] = 0 if families is None else len(set(np.asarray(families)[present]))
    return about

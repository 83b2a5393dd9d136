"""Effects of knocking out over videos: what each branch and head does for a label, where it shows and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.attention.of_view import branch_profile
from analysis.attention.segments import WINDOW
from analysis.explanations.ground_truth import Evidence, label_evidence
from analysis.explanations.scores import explained_labels
from analysis.gmsa_view import model_vocabulary, view_clips
from analysis.interventions.cells import windows_of
from analysis.interventions.edits import EditError, Number
from analysis.interventions.effects import effect_map
from analysis.statistics.comparisons import corrected
from analysis.statistics.intervals import RESAMPLES, mean_interval, resample_counts
from analysis.statistics.paired import paired_p
from gmsa_models.branches import GLOBAL
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip

__all__ = ["EFFECTS", "effect_scores", "effect_table"]

# What is measured of each unit in each video, changes of the label's logit: below 0, what was taken spoke for it.
EFFECTS = {
    "whole": "the unit attends to nothing",
    "evidence": "one window that shows the label is knocked out, mean over such windows",
    "other": "one window that does not is, mean over such windows",
    "evidence - other": "the difference",
}
MOSTLY = 0.5  # share of a window's seconds that show the label: a window of at least so many shows it


def effect_scores(
    model: GMSAClassifier,
    clips: Iterable[Clip],
    *,
    seconds: Number = WINDOW,
    layer: int = 0,
    progress: Callable[[int], None] = lambda clips: None,
) -> xr.Dataset:
    """Knock-out effects of every video on the logit of its first label whose seconds are known.

    Args:
        model: with attention.
        clips: with segments; one no label of which is known to show in some seconds and not in others is left out.
        seconds: length of the windows.
        layer: which encoder layer.
        progress: called after each clip with 1.

    Returns:
        Over (video, modality, unit) `EFFECTS`, NaN where a video has no such window; `attention` (video, modality),
        what the label's seconds receive from the global branch, 1 = uniform, NaN without one; along `video`
        the `label`.

    Raises:
        EditError: no clip is left.
        ArgumentError: the control, which has no attention.
    """
    vocabulary = model_vocabulary(model)
    parts: list[xr.Dataset] = []
    labels, ids = [], []
    for clip in clips:
        short = clip.cut(model.config.max_frames)
        if (result := next(iter(explained_labels(vocabulary, short)), None)) is not None:
            label, position = result
            evidence = label_evidence(short, label)
            part = _effects_of(model, short, position, evidence, seconds, layer)
            parts.append(part)
            labels.append(label)
            ids.append(short.id)
        progress(1)
    if not parts:
        raise EditError("no clip with a label that is known to show in some seconds and not in others")
    joined = xr.concat(parts, "video", join="exact", combine_attrs="drop").assign_attrs(seconds=float(seconds))
    return joined.assign_coords(video=np.array(ids), label=("video", np.array(labels)))


def effect_table(
    scores: xr.Dataset,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    correction: str = "holm",
) -> pd.DataFrame:
    """Mean effects over videos, with intervals and p-values that are corrected over the units of each effect.

    Args:
        scores: of `effect_scores`.
        resamples, seed: of the bootstrap; `paired_p` has its own number of draws.
        correction: see `adjust_p_values`; "benjamini-hochberg" keeps the rate of false discoveries.

    Returns:
        A row an effect and unit: metric (of `EFFECTS`), modality, branch, head (-1: all), estimate, low, high (logits),
        p_value (two-sided, of no effect), videos, p_adjusted, correction.
    """
    counts = resample_counts(scores.sizes["video"], resamples, seed)
    rows = []
    for metric in EFFECTS:
        for modality in scores["modality"].to_numpy():
            for unit in range(scores.sizes["unit"]):
                values = scores[metric].sel(modality=modality).isel(unit=unit).to_numpy().astype(np.float64)
                about = {"branch": str(scores["branch"][unit].item()), "head": int(scores["head"][unit])}
                rows.append({"metric": metric, "modality": str(modality), **about, **_tested(values, counts, seed)})
    return corrected(rows, correction)


def _tested(values: Float[np.ndarray, " videos"], counts: np.ndarray, seed: int) -> dict[str, float]:
    known = int((~np.isnan(values)).sum())
    if not known:
        return dict.fromkeys(("estimate", "low", "high", "p_value"), float("nan")) | {"videos": 0}
    result = mean_interval(values, counts)
    p_value = paired_p(values, seed=seed) if known > 1 else float("nan")
    ends = {"estimate": result.estimate, "low": result.low, "high": result.high}
    return ends | {"p_value": p_value, "videos": known}


def _effects_of(
    model: GMSAClassifier, clip: Clip, position: int, evidence: Evidence, seconds: Number, layer: int
) -> xr.Dataset:
    windows = windows_of(clip, seconds)
    result = effect_map(model, clip, position, windows=windows, layer=layer)
    effect = result["effect"].sel(direction="noising", drop=True)
    shows, free = _windows(evidence, windows, clip.frame_seconds)
    means = {"evidence": _mean(effect, shows), "other": _mean(effect, free)}
    variables = {"whole": result["base"] - result["clean"]} | means
    view = view_clips(model, [clip])
    shown = evidence.shows.to(view.valid.device)
    attention = [
        float(branch_profile(view, modality, GLOBAL, layer)[0][shown].mean())
        if GLOBAL in view.layer(modality, layer).weights
        else float("nan")
        for modality in view.modalities
    ]
    made = xr.Dataset(variables).drop_vars(("start", "stop"), errors="ignore")
    return made.assign({"evidence - other": made["evidence"] - made["other"], "attention": ("modality", attention)})


def _windows(
    evidence: Evidence, windows: tuple[tuple[Number, Number], ...], frame_seconds: float
) -> tuple[Bool[np.ndarray, " windows"], Bool[np.ndarray, " windows"]]:
    """Which windows show the label for at least half of their seconds, and which are known not to at all."""
    times = np.arange(len(evidence.shows)) * frame_seconds
    inside = [(times >= start) & (times < stop) for start, stop in windows]

    def share(frames: Bool[Tensor, " frames"]) -> Float[np.ndarray, " windows"]:
        return np.array([frames.cpu().numpy()[each].mean() for each in inside])

    return share(evidence.shows) >= MOSTLY, share(~evidence.shows & evidence.known) == 1


def _mean(effect: xr.DataArray, chosen: Bool[np.ndarray, " windows"]) -> xr.DataArray:
    return effect.where(xr.DataArray(chosen, dims="window")).mean("window")

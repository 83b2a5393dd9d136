"""What one model does in some videos, video by video: unevenness, vertical lines, lags, local sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr

from analysis.attention.lags import mass_by_lag, mean_by_lag
from analysis.attention.of_view import block_map, branch_profile, branch_unevenness, branch_verticality
from analysis.attention.similarity import frame_cosine_similarity
from analysis.gmsa_view import view_clips
from analysis.sensitivity.of_view import view_gradient_norms, view_sensitivity
from analysis.view import TraceView
from gmsa_models.branches import GLOBAL
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import standard_contexts
from gmsa_models.masks import Neighbourhood

__all__ = ["clip_statistics", "global_verticality", "model_statistics"]

TOP = 0.1  # "a few frames": the tenth that receives most


def model_statistics(
    model: GMSAClassifier,
    clips: Sequence[Clip],
    neighbourhood: Neighbourhood,
    modality: str = "visual",
    progress: Callable[[int], None] = lambda clips: None,
) -> xr.Dataset:
    """Statistics of every clip, along `video`.

    Args:
        model: with attention.
        clips: all of one number of frames.
        neighbourhood: the N_i by which `sensitivity` is measured; `own_sensitivity` is by the model's own.
        modality: whose gradients are taken; the first that the model has where it lacks this one.
        progress: called after each clip with 1.

    Returns:
        `gini` (video, modality, branch) of the profiles; `top_share` (video, modality, branch) of the attention that
        the tenth of the frames with most receives; `verticality`, `verticality_by_chance`, `verticality_adjusted`
        (video, modality, head) of the global branch; `attention_by_lag` (video, modality, lag) and `gradient_by_lag`
        (video, lag), shares of 1; `sensitivity`, `own_sensitivity` (video, frame), S_i of equation 10. Lags and frames
        in seconds.

    Raises:
        ValueError: clips of different lengths.
    """
    if len(lengths := {min(clip.frames, model.config.max_frames) for clip in clips}) != 1:
        raise ValueError(f"clips of {sorted(lengths)} frames; expected one length for all")
    source = modality if modality in model.config.modalities else next(iter(model.config.modalities))
    each = []
    for clip in clips:
        with standard_contexts():
            each.append(_clip_statistics(view_clips(model, [clip], chosen=neighbourhood), source))
        progress(1)
    together = xr.concat(each, "video", join="override")
    return together.assign_coords(video=np.array([clip.id for clip in clips])).assign_attrs(gradient_modality=source)


def clip_statistics(clips: Sequence[Clip], modalities: Sequence[str]) -> xr.Dataset:
    """What the clips alone decide: `similarity_by_lag` (video, modality, lag), the mean cosine of frames at each lag.

    Args:
        clips: all of one number of frames.
        modalities: which.
    """
    values = np.stack([np.stack([_similarity_by_lag(clip, modality) for modality in modalities]) for clip in clips])
    return xr.Dataset(
        {"similarity_by_lag": (("video", "modality", "lag"), values)},
        {
            "video": np.array([clip.id for clip in clips]),
            "modality": np.array(list(modalities)),
            "lag": np.arange(values.shape[2]) * clips[0].frame_seconds,
        },
    )


def _clip_statistics(view: TraceView, source: str) -> xr.Dataset:
    seconds = np.arange(view.frames) * view.one.frame_seconds
    attention = np.stack([mass_by_lag(_numpy(block_map(view, name)[0])) for name in view.modalities])
    gini = lambda *place: branch_unevenness(view, *place).gini[0]  # noqa: E731
    top = lambda *place: _top_share(branch_profile(view, *place)[0])  # noqa: E731
    norms = view_gradient_norms(view, source)
    assert norms is not None  # of a GMSA model with attention
    variables = {
        "gini": (("modality", "branch"), _by_branch(view, gini), {"long_name": "Gini of profile", "units": "0 = even"}),
        "top_share": (("modality", "branch"), _by_branch(view, top)),
        "attention_by_lag": (("modality", "lag"), attention),
        "gradient_by_lag": ("lag", mass_by_lag(norms[0].double().cpu().numpy())),
        **_sensitivities(view, source),
        **global_verticality(view),
    }
    coords = {"modality": np.array(view.modalities), "branch": np.array(view.branches)}
    return xr.Dataset(variables).assign_coords(coords | {"lag": seconds, "frame": seconds})


def _by_branch(view: TraceView, statistic: Callable[[str, str], torch.Tensor]) -> np.ndarray:
    """A number a modality and branch; NaN where the first layer lacks the branch."""
    return np.array(
        [
            [
                float(statistic(name, branch)) if branch in view.layer(name).weights else np.nan
                for branch in view.branches
            ]
            for name in view.modalities
        ],
        np.float32,
    )


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _similarity_by_lag(clip: Clip, modality: str) -> np.ndarray:
    return mean_by_lag(frame_cosine_similarity(torch.from_numpy(clip.floats(modality))).numpy())


def _sensitivities(view: TraceView, modality: str) -> dict[str, tuple[str, np.ndarray]]:
    each = {name: view_sensitivity(view, modality, pattern) for name, pattern in (
        ("sensitivity", view.chosen), ("own_sensitivity", view.own),
    )}  # fmt: skip
    return {name: ("frame", values[0].double().cpu().numpy()) for name, values in each.items() if values is not None}


def global_verticality(view: TraceView) -> dict[str, xr.DataArray]:
    """Verticality (modality, head) of the first layer's global branch; heads that it lacks are NaN.

    Args:
        view: of one clip.

    Returns:
        `verticality`, `verticality_by_chance` and `verticality_adjusted`; see `analysis.attention.verticality`.
    """
    fields = {"verticality": "value", "verticality_by_chance": "null_mean", "verticality_adjusted": "adjusted"}
    values = {name: np.full((len(view.modalities), view.heads), np.nan) for name in fields}
    for row, modality in enumerate(view.modalities):
        if GLOBAL not in view.layer(modality).weights:
            continue
        lines, heads = branch_verticality(view, modality, GLOBAL), view.layer(modality).heads_of(GLOBAL)
        for name, field in fields.items():
            values[name][row, heads] = getattr(lines, field)[0].cpu().numpy()
    coords = {"modality": np.array(view.modalities), "head": np.arange(view.heads)}
    return {name: xr.DataArray(each, coords, ("modality", "head")) for name, each in values.items()}


def _top_share(profile: torch.Tensor) -> torch.Tensor:
    """Of one profile."""
    count = max(1, round(TOP * len(profile)))
    return profile.sort().values[-count:].sum() / profile.sum()

"""What one model does in some videos, video by video: unevenness, vertical lines, lags, local sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr

from analysis.attention.blend import blended_attention
from analysis.attention.lags import mass_by_lag, mean_by_lag
from analysis.attention.similarity import frame_cosine_similarity
from analysis.attention.verticality import verticality
from analysis.record.inspect import inspect_clip
from analysis.sensitivity.norms import frame_gradient_norms, local_sensitivity
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.masks import Neighbourhood, neighbourhood_mask

PARTS = ("attention", "profile", "gate")
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
        each.append(_clip_statistics(model, clip, neighbourhood, source))
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


def _clip_statistics(model: GMSAClassifier, clip: Clip, neighbourhood: Neighbourhood, source: str) -> xr.Dataset:
    record = inspect_clip(model, clip, parts=PARTS)
    norms = frame_gradient_norms(model, clip, source)
    modalities = [str(name) for name in record["modality"].values]
    seconds = np.arange(record.sizes["frame"]) * clip.frame_seconds
    attention = np.stack([mass_by_lag(blended_attention(record, name)) for name in modalities])
    variables = {
        "gini": record["profile_gini"].transpose("modality", "branch").drop_vars("model"),
        "top_share": _top_share(record),
        "attention_by_lag": (("modality", "lag"), attention),
        "gradient_by_lag": ("lag", mass_by_lag(norms.double().cpu().numpy())),
        **_sensitivities(model, norms, neighbourhood),
        **global_verticality(record),
    }
    coords = {"modality": np.array(modalities), "branch": record["branch"].values.astype(str)}
    return xr.Dataset(variables).assign_coords(coords | {"lag": seconds, "frame": seconds})


def _similarity_by_lag(clip: Clip, modality: str) -> np.ndarray:
    return mean_by_lag(frame_cosine_similarity(torch.from_numpy(clip.floats(modality))).numpy())


def _sensitivities(model: GMSAClassifier, norms: torch.Tensor, shared: Neighbourhood) -> dict[str, tuple]:
    own = model.config.neighbourhood
    chosen = {"sensitivity": shared} | ({} if own is None else {"own_sensitivity": own})
    masks = {name: neighbourhood_mask(each, len(norms)) for name, each in chosen.items()}
    return {name: ("frame", local_sensitivity(norms, mask).double().cpu().numpy()) for name, mask in masks.items()}


def global_verticality(record: xr.Dataset) -> dict[str, xr.DataArray]:
    """Verticality (modality, head) of the global branch, the one that every block has; heads that it lacks are NaN.

    Args:
        record: with `attention`, dimensions in any order.

    Returns:
        `verticality`, `verticality_by_chance` and `verticality_adjusted`; see `analysis.attention.verticality`.
    """
    weights = record["attention"].sel(branch="global").transpose("modality", "head", "query", "key")
    there = [int(head) for head in weights["head"].values if not np.isnan(weights.sel(head=head).values[0, 0, 0])]
    found = verticality(torch.from_numpy(weights.sel(head=there).values.copy()))
    heads = xr.DataArray(weights["head"].values, dims="head")
    values = {
        "verticality": found.value,
        "verticality_by_chance": found.null_mean,
        "verticality_adjusted": found.adjusted,
    }
    return {
        name: xr.DataArray(value.numpy(), {"head": there}, ("modality", "head")).reindex(head=heads)
        for name, value in values.items()
    }


def _top_share(record: xr.Dataset) -> xr.DataArray:
    profile = record["profile"].transpose("modality", "branch", "frame")
    count = max(1, round(TOP * profile.sizes["frame"]))
    highest = np.sort(profile.values, axis=-1)[..., -count:].sum(-1)
    return xr.DataArray(highest / profile.values.sum(-1), dims=("modality", "branch"))

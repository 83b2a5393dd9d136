"""What explanations find, and what ablation costs, of one model on some videos: the numbers of Figures 7 and 8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import xarray as xr

from analysis.explanations.ground_truth import EVIDENCE_MEASURES
from analysis.explanations.registry import EXPLANATIONS, applicable
from analysis.explanations.scores import explained_labels, explanation_scores
from analysis.interventions.ablation import all_ablations
from analysis.interventions.ablation_scores import ablation_costs, ablation_scores
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.data.sources import read_clips
from gmsa_models.data.vocabulary import Vocabulary

__all__ = ["ablation_table", "evidence_found", "explained_clips", "in_order"]

METRIC = "gap"


def explained_clips(source: Sequence[str], vocabulary: Vocabulary, videos: int, frames: int) -> list[Clip]:
    """The first videos, cut to some frames, in which it is known which of those show a label and which do not.

    Args:
        source: what `read_clips` takes.
        vocabulary: of the models.
        videos: how many at most.
        frames: how many first frames of each.
    """
    cut = (clip.cut(frames) for clip in read_clips(list(source)))
    return list(islice((clip for clip in cut if any(explained_labels(vocabulary, clip))), videos))


def evidence_found(
    model: GMSAClassifier, clips: Sequence[Clip], progress: Callable[[int], None] = lambda clips: None
) -> xr.Dataset:
    """How well each explanation finds the seconds of each video's first label: a variable a measure.

    Args:
        model: with a vocabulary.
        clips: of `explained_clips`.
        progress: called after each clip with 1.

    Returns:
        `EVIDENCE_MEASURES` (video, explainer), explainers in the order of `EXPLANATIONS`, without those that do not
        apply to the model.
    """
    table = explanation_scores(model, clips, faithfulness=False, labels=1, progress=progress)
    explainers = list(applicable(model))
    pivot = table.pivot(index=["measure", "video"], columns="method", values="value")[explainers]
    values = {name: pivot.loc[name].loc[[clip.id for clip in clips]].to_numpy() for name in EVIDENCE_MEASURES}
    coords = {"video": np.array([clip.id for clip in clips]), "explainer": np.array(explainers)}
    return xr.Dataset({name: (("video", "explainer"), value) for name, value in values.items()}, coords)


def ablation_table(
    model: GMSAClassifier,
    clips: Sequence[Clip],
    resamples: int,
    seed: int,
    progress: Callable[[int], None] = lambda clips: None,
) -> xr.Dataset:
    """GAP lost when a branch, or a head, hands on its mean over all frames of all videos.

    Args:
        model: with attention.
        clips: videos with labels.
        resamples: bootstrap samples.
        seed: of the samples.
        progress: called with the number of clips that are done since the last call.

    Returns:
        `cost`, `low`, `high` (points of percent) and `p_adjusted` (Holm, over the parts of the model) along `modality`
        and `part` ("global branch", "head 0", ...); NaN for a part that the model lacks.
    """
    scores = ablation_scores(model, clips, all_ablations(model, ("mean",)), progress=progress)
    costs = ablation_costs(scores, (METRIC,), resamples=resamples, seed=seed)
    heads = costs["unit"] == "head"
    costs["part"] = np.where(heads, "head " + costs["head"].astype(str), costs["branch"] + " branch")
    order = {name: list(dict.fromkeys(costs[name])) for name in ("modality", "part")}
    table = costs.set_index(["modality", "part"])[["cost", "low", "high", "p_adjusted"]].to_xarray()
    return table.reindex(order).assign_attrs(intact=float(costs["intact"].iloc[0]), videos=len(clips))


def in_order(explainers: Sequence[str]) -> list[str]:
    """Names of explanations in the order of `EXPLANATIONS`."""
    return [name for name in EXPLANATIONS if name in explainers]

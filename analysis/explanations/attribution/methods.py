"""Attributions as explanations: each method on every stream, feature by feature and frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from analysis.attention.segments import frame_groups
from analysis.explanations.attribution.baselines import baseline_inputs
from analysis.explanations.attribution.gradients import (
    FrameScores,
    deep_lift,
    gradient_shap,
    input_x_gradient,
    integrated_gradients,
    saliency,
)
from analysis.explanations.attribution.perturbations import occlusion, segment_shapley
from analysis.explanations.explanation import Explanation
from analysis.explanations.stream import stream_inputs, streams
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating

__all__ = ["gradient_explanation", "occlusion_explanation", "shapley_explanation"]

# Name -> the method on one stream, whether values are shares of a logit, and whether it uses the baseline.
GRADIENTS: dict[str, tuple[Callable[..., FrameScores], bool, bool]] = {
    "saliency": (saliency, False, False),
    "input-x-gradient": (input_x_gradient, True, False),
    "integrated-gradients": (integrated_gradients, True, True),
    "gradient-shap": (gradient_shap, True, True),
    "deep-lift": (deep_lift, True, True),
}


def gradient_explanation(
    model: GMSAClassifier,
    clip: Clip,
    target: int,
    *,
    method: str,
    baseline: str = "mean",
    other: Clip | None = None,
    **options: Any,
) -> Explanation:
    """One of captum's gradient methods, to features, and summed to frames.

    Args:
        model: on any device; left as it was.
        clip: cut to the model's longest. There is no padding, so nothing is attributed to it.
        target: position of the class among the model's outputs.
        method: a key of `GRADIENTS`.
        baseline: a key of `BASELINES`; saliency and input x gradient take none.
        other: the other video of baseline "video".
        options: the method's own: `n_steps`, or `n_samples` and `seed`.

    Returns:
        With `features`. A frame of saliency has the Euclidean norm of its features, of the others the sum.

    Raises:
        ArgumentError: a target or baseline that is unknown.
    """
    function, shares, compares = GRADIENTS[method]
    features, delta = {}, 0.0
    with evaluating(model, widen=True) as model:
        inputs, baselines = stream_inputs(model, clip), baseline_inputs(model, clip, baseline, other)
        for name, stream in streams(model, target, clip).items():
            features[name], missing = function(stream, inputs[name], baselines[name], **options)
            delta += missing or 0.0
    values = torch.stack([each.sum(-1) if shares else each.norm(dim=-1) for each in features.values()])
    return Explanation(
        method,
        target,
        values.cpu(),
        tuple(features),
        units="logit" if shares else "1",
        convergence_delta=delta if compares else None,
        baseline=baseline if compares else None,
        features={name: each.cpu() for name, each in features.items()},
    )


def occlusion_explanation(
    model: GMSAClassifier,
    clip: Clip,
    target: int,
    *,
    by: str = "frame",
    baseline: str = "mean",
    other: Clip | None = None,
) -> Explanation:
    """How far the logit falls when a frame, or a segment, is replaced by the baseline.

    Args:
        by: "frame" or "segment" (of `frame_groups`).
        model, clip, target, baseline, other: see `gradient_explanation`.

    Raises:
        ArgumentError: another `by`; and as `gradient_explanation`.
    """
    if by not in ("frame", "segment"):
        raise ArgumentError(f"occlusion by {by!r}; expected 'frame' or 'segment'")
    short = clip.cut(model.config.max_frames)
    with evaluating(model, widen=True) as model:
        inputs, baselines = stream_inputs(model, clip), baseline_inputs(model, clip, baseline, other)
        groups = torch.arange(short.frames) if by == "frame" else frame_groups(short)
        attributions = [
            occlusion(each, inputs[name], baselines[name], groups)
            for name, each in streams(model, target, clip).items()
        ]
    return Explanation(
        f"{by}-occlusion", target, torch.stack(attributions).cpu(), tuple(inputs), "logit", baseline=baseline
    )


def shapley_explanation(
    model: GMSAClassifier,
    clip: Clip,
    target: int,
    *,
    baseline: str = "mean",
    other: Clip | None = None,
    n_samples: int = 8,
    seed: int = 0,
) -> Explanation:
    """Shapley values of segments; they add up to the difference of clip and baseline exactly.

    Exact up to 12 segments, beyond by sampling, with their standard errors.

    Args:
        n_samples: orders drawn where there are more than 12 segments.
        seed: of the orders.
        model, clip, target, baseline, other: see `gradient_explanation`.
    """
    values, errors, delta, short = [], [], 0.0, clip.cut(model.config.max_frames)
    with evaluating(model, widen=True) as model:
        inputs, baselines = stream_inputs(model, clip), baseline_inputs(model, clip, baseline, other)
        for name, stream in streams(model, target, clip).items():
            attributions, missing, error = segment_shapley(
                stream, inputs[name], baselines[name], frame_groups(short), n_samples, seed
            )
            values.append(attributions)
            errors.append(error)
            delta += missing
    return Explanation(
        "segment-shapley",
        target,
        torch.stack(values).cpu(),
        tuple(inputs),
        "logit",
        convergence_delta=delta,
        standard_error=torch.stack(errors).cpu(),
        baseline=baseline,
    )

"""What each frame receives, as explanations: attention, branch by branch, and gradient. They do not know the class."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.attention.of_view import branch_profile
from analysis.attention.profiles import attention_profile
from analysis.explanations.explanation import Explanation
from analysis.gmsa_view import view_clips
from analysis.sensitivity.of_view import view_gradient_norms, view_sensitivity
from analysis.view import TraceView
from gmsa_models.branches import COMBINED, GLOBAL, in_order
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.trace import LayerTrace

__all__ = ["gradient_received", "profile_explanation", "sensitivity_weighted_profile"]


def profile_explanation(
    model: GMSAClassifier, clip: Clip, target: int, *, branch: str, view: TraceView | None = None
) -> Explanation:
    """The attention profile of a branch: attention received, 1 = uniform; see `attention_profile`.

    Of several local branches the mean.

    Args:
        model: on any device.
        clip: cut to the model's longest.
        target: only noted: attention is the same for every class.
        branch: "global", "combined", or "local": all that are local.
        view: of this model and this clip alone, if there is one; saves a pass. Its first layer is taken.

    Raises:
        ArgumentError: a branch that the model's block lacks.
    """
    view = view or view_clips(model, [clip])
    values = []
    for modality in view.modalities:
        own = _of_kind(view.layer(modality), branch)
        if not own:
            has = ", ".join(view.layer(modality).weights) or "no attention"
            raise ArgumentError(f"no {branch} branch in this model; it has {has}")
        values.append(torch.stack([branch_profile(view, modality, each)[0] for each in own]).mean(0))
    return Explanation(f"attention-{branch}", target, torch.stack(values).cpu(), view.modalities)


def sensitivity_weighted_profile(
    model: GMSAClassifier, clip: Clip, target: int, *, view: TraceView | None = None
) -> Explanation:
    """Local and global attention blended as the gradient says: query i's rows by S_i and 1 - S_i.

    Of several local branches the mean map is blended, and S_i is by their union. Each blended row sums
    to 1, and the profile of the blend is 1 where all attention is uniform over all frames.

    Args:
        model, clip, target, view: see `profile_explanation`.

    Raises:
        ArgumentError: a first layer without a local or without a global branch.
    """
    view = view or view_clips(model, [clip])
    values = []
    for modality in view.modalities:
        layer = view.layer(modality)
        near = _of_kind(layer, "local")
        if not near or GLOBAL not in layer.weights:
            raise ArgumentError("a profile weighted by S needs a block with a local branch, and a global one")
        sensitivity = view_sensitivity(view, modality, layer.neighbourhood)
        if sensitivity is None:
            raise ArgumentError("this model cannot say how its outputs depend on its frames")
        share = sensitivity[0].nan_to_num(nan=0.5)[:, None]
        local = torch.stack([layer.weights[name][0].mean(0) for name in near]).mean(0)
        everywhere = layer.weights[GLOBAL][0].mean(0)
        values.append(attention_profile((share * local + (1 - share) * everywhere)[None]))
    return Explanation("sensitivity-weighted", target, torch.stack(values).cpu(), view.modalities)


def gradient_received(model: GMSAClassifier, clip: Clip, target: int, *, view: TraceView | None = None) -> Explanation:
    """How much all outputs of the attention block depend on each frame: the mean of G's column, 1 = the mean frame's.

    Args:
        model, clip, target, view: see `profile_explanation`.

    Raises:
        ArgumentError: the control, which has no attention block.
    """
    view = view or view_clips(model, [clip])
    if not view.branches:
        raise ArgumentError("the control (attention 'none') has no attention block whose gradient could be received")
    received = torch.stack([_norms(view, modality).mean(0) for modality in view.modalities])
    return Explanation("gradient-received", target, (received / received.mean(1, keepdim=True)).cpu(), view.modalities)


def _of_kind(layer: LayerTrace, kind: str) -> tuple[str, ...]:
    """The branches of a layer that are "global", "combined" or "local"."""
    shared = (GLOBAL, COMBINED)
    return tuple(name for name in in_order(layer.weights) if (name if name in shared else "local") == kind)


def _norms(view: TraceView, modality: str) -> Float[Tensor, "query key"]:
    norms = view_gradient_norms(view, modality)
    if norms is None:
        raise ArgumentError("this model cannot say how its outputs depend on its frames")
    return norms[0]

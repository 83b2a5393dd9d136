"""Attention profiles: how much attention each frame receives, and how unevenly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.attention.maps import attention_support
from gmsa_models.errors import ArgumentError

__all__ = ["Unevenness", "attention_profile", "head_profiles", "unevenness"]


def head_profiles(
    weights: Float[Tensor, "*batch heads query key"],
    neighbourhood: Bool[Tensor, "*_"] | None = None,
    valid: Bool[Tensor, "*batch frames"] | None = None,
) -> Float[Tensor, "*batch heads frames"]:
    """Attention that each frame receives from each head; 1 = what uniform attention over the same mask gives it.

    profile[m, j] = mean_i A[m, i, j] / mean_i U[i, j], with U[i, j] = 1 / |N_i| for j in N_i, else 0; means over real
    query frames i. Over the whole clip it averages to 1 when rows of A sum to 1 and N_i is every frame; rows of a gated
    map (GateAtt, combined) need not sum to 1, and then the average says how much the gates let through.

    Args:
        weights: attention weights after softmax; query is the row and the frame that attends.
        neighbourhood: True where the query may attend to the key, in all clips or in each; None: everywhere.
        valid: True where a frame is real; None: everywhere.

    Returns:
        Values >= 0, without unit; NaN at frames that are padding.

    Raises:
        ArgumentError: query and key frames differ, a mask of another size, weight outside the mask or on padding.

    Source:
        Sahu and Goyal, ICASSP 2022, the figure of attention profiles; normalised as `attention_profile` says.
    """
    allowed = _allowed(weights, neighbourhood, valid)
    weights = weights.float() if weights.dtype in (torch.float16, torch.bfloat16) else weights
    if bool((weights.abs() * ~allowed.unsqueeze(-3)).any()):
        *batch, head, query, key = (weights * ~allowed.unsqueeze(-3)).nonzero()[0].tolist()
        where = f" of batch entry {tuple(batch)}" if batch else ""
        raise ArgumentError(f"head {head}{where}: query {query} puts weight on key {key}, which its mask excludes")
    uniform = allowed.to(weights.dtype) / allowed.sum(dim=-1, keepdim=True).clamp(min=1)
    # The number of query frames is in both means and cancels; a padded key has 0 / 0, which is the NaN we want.
    return weights.sum(dim=-2) / uniform.sum(dim=-2).unsqueeze(-2)


def attention_profile(
    weights: Float[Tensor, "*batch heads query key"],
    neighbourhood: Bool[Tensor, "*_"] | None = None,
    valid: Bool[Tensor, "*batch frames"] | None = None,
) -> Float[Tensor, "*batch frames"]:
    """Attention that each frame receives, averaged over heads; 1 = uniform attention over the same mask.

    Local and global profiles share this axis: each is divided by what uniform attention over its own mask gives.

    Args:
        weights: attention weights after softmax; query is the row and the frame that attends.
        neighbourhood: True where the query may attend to the key, in all clips or in each; None: everywhere.
        valid: True where a frame is real; None: everywhere.

    Returns:
        Values >= 0, without unit; NaN at frames that are padding.

    Raises:
        ArgumentError: as `head_profiles`.

    Source:
        Sahu and Goyal, ICASSP 2022, the figure of attention profiles.
    """
    return head_profiles(weights, neighbourhood, valid).mean(dim=-2)


@dataclass(frozen=True)
class Unevenness:
    """How unevenly attention is spread over frames; each field has one value a profile.

    Attributes:
        entropy: of the profile as shares of the attention, in nats; ln(frames) = even, 0 = all on one frame.
        uniform_entropy: ln(frames), the entropy of an even profile, in nats.
        relative_entropy: entropy / ln(frames), in [0, 1]; 1 = even (and for a clip of one frame).
        gini: Gini coefficient, in [0, 1 - 1 / frames]; 0 = even, higher = more uneven.
    """

    entropy: Float[Tensor, "*batch"]
    uniform_entropy: Float[Tensor, "*batch"]
    relative_entropy: Float[Tensor, "*batch"]
    gini: Float[Tensor, "*batch"]


def unevenness(profile: Float[Tensor, "*batch frames"]) -> Unevenness:
    """How far a profile is from even attention; frames that are NaN (padding) are left out.

    Args:
        profile: attention received, >= 0, any unit: a common factor changes nothing.

    Returns:
        Entropy in nats, beside that of an even profile, and the Gini coefficient.

    Raises:
        ArgumentError: a negative or infinite value, or a profile with no attention at all.
    """
    real = ~profile.isnan()
    values = profile.nan_to_num(nan=0.0, posinf=torch.inf)
    if bool(((values < 0) | values.isinf()).any()):
        *_, frame = ((values < 0) | values.isinf()).nonzero()[0].tolist()
        raise ArgumentError(f"frame {frame} of a profile is negative or infinite; expected attention received, >= 0")
    total = values.sum(dim=-1, keepdim=True)
    if bool((total == 0).any()):
        raise ArgumentError("a profile is 0 or NaN at every frame; expected some attention")
    share = values / total
    entropy = torch.special.entr(share).sum(dim=-1).clamp(min=0.0)
    count = real.sum(dim=-1).to(profile.dtype)
    uniform = count.log()
    relative = torch.where(count > 1, entropy / uniform.clamp(min=torch.finfo(profile.dtype).tiny), 1.0).clamp(max=1.0)
    return Unevenness(entropy, uniform, relative, _gini(share, real))


def _gini(share: Float[Tensor, "*batch frames"], real: Bool[Tensor, "*batch frames"]) -> Float[Tensor, "*batch"]:
    """Gini coefficient of shares that sum to 1: sum_k (2 k - n - 1) share_(k) / n over real frames in rising order."""
    # Padding holds 0 and sorts first; its ranks are shifted to 0 and below, where its 0 counts nothing.
    count = real.sum(dim=-1, keepdim=True)
    frames = share.shape[-1]
    rank = torch.arange(1, frames + 1, device=share.device) - (frames - count)
    rising = share.sort(dim=-1).values
    return ((2 * rank - count - 1) * rising).sum(dim=-1).div(count.squeeze(-1)).clamp(min=0.0)


def _allowed(
    weights: Float[Tensor, "*batch heads query key"],
    neighbourhood: Bool[Tensor, ...] | None,
    valid: Bool[Tensor, ...] | None,
) -> Bool[Tensor, "*batch query key"]:
    """Where weight may lie: inside the neighbourhood, from a real frame to a real frame."""
    try:
        return attention_support(weights, neighbourhood, valid)
    except ArgumentError as error:
        raise ArgumentError(f"no profile of these maps: {error}") from error

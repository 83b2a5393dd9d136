"""What an attention map does, head by head: how spread, how far, how diagonal, how sparse, how redundant.

All on rows as shares of 1 (`analysis.attention.maps.AttentionRows`), so a gated map is judged by where its weight goes.
Values a query are NaN at padding. Vertical lines have a file of their own, `analysis.attention.verticality`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.attention.maps import AttentionRows, attention_rows
from analysis.chunking import chunks
from gmsa_models.errors import ArgumentError

__all__ = [
    "attention_entropy",
    "diagonal_share",
    "head_distances",
    "head_redundancy",
    "hoyer_sparsity",
    "keys_for_mass",
    "mean_attention_distance",
    "pairwise_distances",
    "relative_attention_entropy",
    "relative_row_entropy",
    "row_diagonal_share",
    "row_distance",
    "row_entropy",
    "row_keys_for_mass",
    "row_sparsity",
]

# Mixtures of two heads' maps made together, in bytes.
PAIRS_BYTES = 2**25

Maps = Float[Tensor, "*batch heads query key"]
Mask = Bool[Tensor, "*_"] | None
Valid = Bool[Tensor, "*_"] | None


def attention_entropy(
    weights: Maps, neighbourhood: Mask = None, valid: Valid = None
) -> Float[Tensor, "*batch heads query"]:
    """Entropy of each query's attention, in nats: 0 = one key, ln |N_i| = uniform over the keys it may attend to.

    Args:
        weights: attention weights after the softmax; query is the row.
        neighbourhood: True where the query may attend to the key; None: everywhere.
        valid: True where a frame is real; None: everywhere.

    Returns:
        Nats, in [0, ln |N_i|]; NaN at padded queries.

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.

    Source:
        Clark, Khandelwal, Levy and Manning, "What Does BERT Look At?", BlackboxNLP 2019, section 3.3.
    """
    return row_entropy(attention_rows(weights, neighbourhood, valid))


def relative_attention_entropy(
    weights: Maps, neighbourhood: Mask = None, valid: Valid = None
) -> Float[Tensor, "*batch heads query"]:
    """Entropy of each query's attention over the largest that its support allows, ln |N_i|.

    Args:
        weights, neighbourhood, valid: see `attention_entropy`.

    Returns:
        Values in [0, 1], 1 = uniform over the support, so also where the support is one key; NaN at padded queries.

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.
    """
    rows = attention_rows(weights, neighbourhood, valid)
    return relative_row_entropy(rows, row_entropy(rows))


def mean_attention_distance(
    weights: Maps, frame_seconds: float, neighbourhood: Mask = None, valid: Valid = None
) -> Float[Tensor, "*batch heads query"]:
    """How far from itself each query attends: the mean of |i - j| under its weights, in seconds.

    Args:
        frame_seconds: seconds from one frame to the next.
        weights, neighbourhood, valid: see `attention_entropy`.

    Returns:
        Seconds, at least 0; NaN at padded queries.

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.

    Source:
        "Mean attention distance" of Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, figure 7, over
        time in place of the image.
    """
    return row_distance(attention_rows(weights, neighbourhood, valid), frame_seconds)


def diagonal_share(
    weights: Maps, within: int, neighbourhood: Mask = None, valid: Valid = None
) -> Float[Tensor, "*batch heads query"]:
    """Share of each query's attention that stays at most `within` frames away: the diagonal band.

    Args:
        within: half width of the band in frames, at least 0; 0 = the frame itself.
        weights, neighbourhood, valid: see `attention_entropy`.

    Returns:
        Values in [0, 1]; NaN at padded queries.

    Raises:
        ArgumentError: a negative width; weights that are no map, see `attention_rows`.
    """
    return row_diagonal_share(attention_rows(weights, neighbourhood, valid), within)


def hoyer_sparsity(
    weights: Maps, neighbourhood: Mask = None, valid: Valid = None
) -> Float[Tensor, "*batch heads query"]:
    """Hoyer's sparsity of each query's attention: (sqrt n - |a|_1 / |a|_2) / (sqrt n - 1), n = |N_i|.

    Args:
        weights, neighbourhood, valid: see `attention_entropy`.

    Returns:
        Values in [0, 1]: 0 = uniform over the support (so also where that is one key), 1 = all on one of several
        keys; NaN at padded queries.

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.

    Source:
        Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints", JMLR 2004, section 3.1; the measure
        of choice in Hurley and Rickard, "Comparing Measures of Sparsity", 2009.
    """
    return row_sparsity(attention_rows(weights, neighbourhood, valid))


def keys_for_mass(
    weights: Maps, mass: float = 0.9, neighbourhood: Mask = None, valid: Valid = None
) -> Float[Tensor, "*batch heads query"]:
    """The smallest share of the keys that holds `mass` of each query's attention.

    Args:
        mass: share of the attention, in (0, 1].
        weights, neighbourhood, valid: see `attention_entropy`.

    Returns:
        Values in (0, 1]: 1 / |N_i| = one key holds it, about `mass` = uniform; NaN at padded queries.

    Raises:
        ArgumentError: a mass out of range; weights that are no map, see `attention_rows`.
    """
    return row_keys_for_mass(attention_rows(weights, neighbourhood, valid), mass)


def head_distances(
    weights: Maps, neighbourhood: Mask = None, valid: Valid = None
) -> Float[Tensor, "*batch heads heads"]:
    """Jensen-Shannon distance between the maps of every pair of heads, averaged over queries.

    The square root of the divergence in bits: a metric, 0 = the same weights, 1 = no key in common.

    Args:
        weights, neighbourhood, valid: see `attention_entropy`.

    Returns:
        Symmetric, zero diagonal, in [0, 1].

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.

    Source:
        Clark et al. 2019, section 6, who sum divergences; the root is Endres and Schindelin, "A New Metric for
        Probability Distributions", 2003.
    """
    return pairwise_distances(attention_rows(weights, neighbourhood, valid))


def head_redundancy(distances: Float[Tensor, "*batch heads heads"]) -> Float[Tensor, "*batch heads"]:
    """How well another head stands in for each: 1 - the distance to the nearest other head.

    Args:
        distances: of `head_distances`, in [0, 1].

    Returns:
        Values in [0, 1], 1 = another head has the same map; NaN for a head that is alone.
    """
    heads = distances.shape[-1]
    if heads == 1:
        return distances.new_full(distances.shape[:-1], torch.nan)
    itself = torch.eye(heads, dtype=torch.bool, device=distances.device)
    return 1 - distances.masked_fill(itself, torch.inf).amin(-1)


def row_entropy(rows: AttentionRows) -> Float[Tensor, "*batch heads query"]:
    """`attention_entropy` of rows in hand."""
    return rows.of_queries(_entropies(rows.shares).clamp(min=0.0))


def relative_row_entropy(
    rows: AttentionRows, entropy: Float[Tensor, "*batch heads query"]
) -> Float[Tensor, "*batch heads query"]:
    """`relative_attention_entropy` of rows in hand, from their entropy."""
    most = rows.counts.clamp(min=1).log()
    relative = torch.where(most > 0, entropy / most.clamp(min=math.log(2)), 1.0).clamp(max=1.0)
    return rows.of_queries(relative)


def row_distance(rows: AttentionRows, frame_seconds: float) -> Float[Tensor, "*batch heads query"]:
    """`mean_attention_distance` of rows in hand."""
    return rows.of_queries((rows.shares * _lags(rows)).sum(-1) * frame_seconds)


def row_diagonal_share(rows: AttentionRows, within: int) -> Float[Tensor, "*batch heads query"]:
    """`diagonal_share` of rows in hand."""
    if within < 0:
        raise ArgumentError(f"a diagonal band of {within} frames on either side; expected at least 0")
    return rows.of_queries((rows.shares * (_lags(rows) <= within)).sum(-1).clamp(max=1.0))


def row_sparsity(rows: AttentionRows) -> Float[Tensor, "*batch heads query"]:
    """`hoyer_sparsity` of rows in hand."""
    root = rows.counts.sqrt()
    # Shares sum to 1, so |a|_1 is 1.
    spread = 1 / rows.shares.square().sum(-1).sqrt().clamp(min=torch.finfo(rows.shares.dtype).tiny)
    sparsity = torch.where(root > 1, (root - spread) / (root - 1).clamp(min=0.1), 0.0)
    return rows.of_queries(sparsity.clamp(0.0, 1.0))


def row_keys_for_mass(rows: AttentionRows, mass: float) -> Float[Tensor, "*batch heads query"]:
    """`keys_for_mass` of rows in hand."""
    if not 0 < mass <= 1:
        raise ArgumentError(f"mass is {mass}; expected a share of the attention in (0, 1]")
    # numpy sorts short rows a hundred times faster than torch does.
    rising = np.sort(rows.shares.detach().cpu().numpy(), axis=-1)
    cumulative = np.cumsum(rising[..., ::-1], axis=-1, dtype=np.float64)
    # Sums of float32 shares miss 1 by rounding, and then no number of keys would hold a mass of 1.
    needed = (cumulative < mass - 1e-6).sum(-1) + 1
    keys = torch.from_numpy(needed).to(rows.shares)
    return rows.of_queries(torch.minimum(keys, rows.counts) / rows.counts.clamp(min=1))


def pairwise_distances(rows: AttentionRows) -> Float[Tensor, "*batch heads heads"]:
    """`head_distances` of rows in hand."""
    shares, heads = rows.shares, rows.shares.shape[-3]
    entropy = _entropies(shares)
    distances = shares.new_zeros(*shares.shape[:-3], heads, heads)
    queries = rows.support.any(-1).sum(-1)
    bytes_each = shares[..., 0, :, :].numel() * shares.element_size()
    pairs = ((head, chunk) for head in range(heads - 1) for chunk in chunks(heads - 1 - head, PAIRS_BYTES, bytes_each))
    for head, chunk in pairs:
        others = slice(head + 1 + chunk.start, head + 1 + chunk.stop)
        mixture = _entropies((shares[..., head : head + 1, :, :] + shares[..., others, :, :]) / 2)
        nats = mixture - (entropy[..., head : head + 1, :] + entropy[..., others, :]) / 2
        bits = (nats / math.log(2)).clamp(0.0, 1.0)
        distances[..., head, others] = bits.sqrt().sum(-1) / queries.unsqueeze(-1)
    return distances + distances.mT


def _entropies(shares: Float[Tensor, "*batch query key"]) -> Float[Tensor, "*batch query"]:
    """-sum a ln a of each row, 0 ln 0 = 0. Several times faster than `torch.special.entr`, which takes no vectors."""
    return -(shares.clamp(min=torch.finfo(shares.dtype).tiny).log_() * shares).sum(-1)


def _lags(rows: AttentionRows) -> Float[Tensor, "query key"]:
    index = torch.arange(rows.shares.shape[-1], device=rows.shares.device, dtype=rows.shares.dtype)
    return (index[:, None] - index[None]).abs_()

"""Verticality: how much of an attention map is vertical lines, keys that every query attends to alike.

Definition, properties and the closed form of the null: docs/concepts/verticality.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy  # its parts are imported when they are used
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.attention.maps import AttentionRows, attention_rows

__all__ = ["Geometry", "Verticality", "row_verticality", "shuffle_within", "shuffled_verticality", "verticality"]

# Below this many roundings of uniform shares a map deviates from uniform by rounding alone.
ROUNDINGS = 16.0

Maps = Float[Tensor, "*batch heads query key"]


@dataclass(frozen=True)
class Verticality:
    """How vertical each map is, beside what chance gives; every field has one value a head.

    Attributes:
        value: share of the map's deviation from uniform that one appeal a key explains, in [0, 1]; 1 = all rows equal.
        null_mean: its exact mean when each query's weights are shuffled among the keys of its support.
        null_deviation: its exact standard deviation then.
        adjusted: (value - null_mean) / (1 - null_mean), at most 1; 0 = chance; below 0: less vertical than chance.
        p_value: chance of a value at least this large under the shuffles, from a gamma distribution of that mean and
            deviation; no lower than about 1e-300.
    """

    value: Float[Tensor, "*batch heads"]
    null_mean: Float[Tensor, "*batch heads"]
    null_deviation: Float[Tensor, "*batch heads"]
    adjusted: Float[Tensor, "*batch heads"]
    p_value: Float[Tensor, "*batch heads"]


def verticality(
    weights: Maps, neighbourhood: Bool[Tensor, "*_"] | None = None, valid: Bool[Tensor, "*_"] | None = None
) -> Verticality:
    """How much of each head's map is vertical lines, with a permutation null in closed form.

    Args:
        weights: attention weights after the softmax; query is the row. Rows of gated maps are taken as shares of 1.
        neighbourhood: True where the query may attend to the key; None: everywhere.
        valid: True where a frame is real; None: everywhere.

    Returns:
        float64 values a head; NaN for a map that is uniform to rounding (nothing to explain), and p_value 1 where the
        support allows one value only.

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.

    Source:
        The vertical lines of Sahu and Goyal, ICASSP 2022, figure of inter-frame similarity; the number is ours: R^2
        of the additive two-way model with empty cells (Searle, "Linear Models", 1971, chapter 7), its null that of a
        permutation test within blocks (rows).
    """
    return row_verticality(attention_rows(weights, neighbourhood, valid))


def row_verticality(rows: AttentionRows) -> Verticality:
    """`verticality` of rows in hand."""
    *batch, heads, frames, _ = rows.shares.shape
    deviation = _deviation(rows).reshape(-1, heads, frames, frames)
    support = rows.support.reshape(-1, frames, frames)
    each = [_explain(one, _geometry(mask)) for one, mask in zip(deviation, support, strict=True)]
    value, mean, variance = (torch.stack(parts).reshape(*batch, heads) for parts in zip(*each, strict=True))
    adjusted = torch.where(mean < 1, (value - mean) / (1 - mean), 0.0).where(~value.isnan(), torch.nan)
    return Verticality(value, mean, variance.sqrt(), adjusted, _p_value(value, mean, variance))


def shuffled_verticality(
    weights: Maps,
    permutations: int,
    seed: int,
    neighbourhood: Bool[Tensor, "*_"] | None = None,
    valid: Bool[Tensor, "*_"] | None = None,
) -> Float[Tensor, "permutations *batch heads"]:
    """Verticality of maps whose rows are shuffled within their support: the null of `verticality`, sampled.

    The same shuffles serve all heads, so values of one permutation are not independent across heads.

    Args:
        permutations: how many, at least 1.
        seed: the same seed gives the same shuffles.
        weights, neighbourhood, valid: see `verticality`.

    Returns:
        float64 values; a p-value of an observed value v is (1 + count(shuffled >= v)) / (1 + permutations).

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.
    """
    rows = attention_rows(weights, neighbourhood, valid)
    *batch, heads, frames, _ = rows.shares.shape
    deviation = _deviation(rows).reshape(-1, heads, frames, frames)
    supports = rows.support.reshape(-1, frames, frames)
    generator = np.random.default_rng(seed)
    out = deviation.new_empty(permutations, len(deviation), heads)
    for entry, (one, support) in enumerate(zip(deviation, supports, strict=True)):
        geometry = _geometry(support)
        total = one.square().sum((-2, -1))
        for row in range(permutations):
            source = shuffle_within(support.cpu().numpy(), generator)
            shuffled = one.take_along_dim(torch.from_numpy(source).to(one.device)[None], -1)
            out[row, entry] = geometry.explained(shuffled) / total
    return out.reshape(permutations, *batch, heads)


def shuffle_within(
    support: Bool[np.ndarray, "query key"], generator: np.random.Generator
) -> Int[np.ndarray, "query key"]:
    """For each query and key the key whose weight comes to stand there: uniform shuffles within each row's support."""
    frames = support.shape[-1]
    source = np.broadcast_to(np.arange(frames), support.shape).copy()
    counts = support.sum(-1)
    for count in np.unique(counts[counts > 1]):
        (queries,) = np.nonzero(counts == count)
        keys = np.nonzero(support[queries])[1].reshape(len(queries), count)
        source[queries[:, None], keys] = generator.permuted(keys, axis=1)
    return source


@dataclass(frozen=True)
class Geometry:
    """What the supports alone decide; `query` i has support S_i of `counts` n_i keys, and P_i centres over it.

    Attributes:
        inverse: G, an inverse of the Laplacian of the supports on vectors that sum to 0 on each of its components.
        counts: n_i.
        trace: tr(P_i G P_i).
        diagonal: sum over j of (P_i G P_i)[j, j]^2.
        overlap: (i, k): squared Frobenius norm of P_i G P_k.
    """

    inverse: Float[Tensor, "key key"]
    counts: Float[Tensor, " query"]
    trace: Float[Tensor, " query"]
    diagonal: Float[Tensor, " query"]
    overlap: Float[Tensor, "query query"]

    def explained(self, deviation: Float[Tensor, "heads query key"]) -> Float[Tensor, " heads"]:
        """The sum of squares that appeals explain, b^T G b."""
        received = deviation.sum(-2)
        return ((received @ self.inverse) * received).sum(-1)


def _deviation(rows: AttentionRows) -> Float[Tensor, "*batch heads query key"]:
    """D in float64, exactly 0 for maps that differ from uniform by rounding alone."""
    support = rows.support.unsqueeze(-3).double()
    counts = support.sum(-1, keepdim=True).clamp(min=1)
    shares = rows.shares.double()
    # Rows sum to 1 only to rounding, and the null is for rows of D that sum to 0: hence their own mean, not 1 / n.
    deviation = (shares - shares.sum(-1, keepdim=True) / counts).mul_(support)
    rounding = (ROUNDINGS * torch.finfo(rows.shares.dtype).eps) ** 2 * (support / counts).square().sum((-2, -1))
    uniform = torch.linalg.vector_norm(deviation, dim=(-2, -1)).square() <= rounding
    return deviation.masked_fill_(uniform[..., None, None], 0.0) if bool(uniform.any()) else deviation


def _explain(
    deviation: Float[Tensor, "heads query key"], geometry: Geometry
) -> tuple[Float[Tensor, " heads"], Float[Tensor, " heads"], Float[Tensor, " heads"]]:
    """Share explained, and mean and variance of that share under the null."""
    squares = deviation.square()
    of_row = squares.sum(-1)
    total = of_row.sum(-1)
    spread = of_row / (geometry.counts - 1).clamp(min=1)
    mean = (spread * geometry.trace).sum(-1) / total
    between = ((spread @ geometry.overlap) * spread).sum(-1) - (spread.square() * geometry.overlap.diagonal()).sum(-1)
    within = _row_variance(of_row, squares.square().sum(-1), geometry).sum(-1)
    return geometry.explained(deviation) / total, mean, (2 * between + within).clamp(min=0.0) / total.square()


def _row_variance(
    squares: Float[Tensor, "heads query"], fourths: Float[Tensor, "heads query"], geometry: Geometry
) -> Float[Tensor, "heads query"]:
    """Variance of x^T H x over the shuffles of each row x (n numbers, sum 0), for H = P G P.

    E (x^T H x)^2 adds H[j, k] H[l, m] E x_j x_k x_l x_m over all indices, here by which of the four coincide; a sum of
    x over distinct indices is one of its power sums, of H one of its trace, squared diagonal and squared norm.
    """
    n, square, fourth = geometry.counts, squares.square(), fourths
    trace, diagonal, norm = geometry.trace.square(), geometry.diagonal, geometry.overlap.diagonal()
    pairs, triples = n * (n - 1), n * (n - 1) * (n - 2)
    quadruples = triples * (n - 3)
    four = fourth / n.clamp(min=1) * diagonal
    three_one = _over(-fourth, pairs) * -4 * diagonal
    two_two = _over(square - fourth, pairs) * (trace + 2 * norm - 3 * diagonal)
    two_one_one = _over(2 * fourth - square, triples) * (-2 * trace + 12 * diagonal - 4 * norm)
    ones = _over(3 * (square - 2 * fourth), quadruples) * (trace - 6 * diagonal + 2 * norm)
    mean = _over(squares, n - 1) * geometry.trace
    return four + three_one + two_two + two_one_one + ones - mean.square()


def _over(sums: Float[Tensor, "heads query"], ways: Float[Tensor, " query"]) -> Float[Tensor, "heads query"]:
    """A mean over that many choices; 0 where there is none."""
    return torch.where(ways > 0, sums / torch.where(ways > 0, ways, 1.0), 0.0)


def _p_value(
    value: Float[Tensor, "*shape"], mean: Float[Tensor, "*shape"], variance: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Upper tail of the gamma distribution of that mean and variance; 1 where the variance is 0 to rounding."""
    fixed = variance <= (1e-12 * mean) ** 2
    scale = torch.where(fixed, 1.0, variance / mean)
    tail = torch.special.gammaincc(mean / scale, value / scale)
    return torch.where(fixed, 1.0, tail).where(~value.isnan(), torch.nan)


def _geometry(support: Bool[Tensor, "query key"]) -> Geometry:
    """The geometry of a support, on its device; made once for a mask, since thousands of clips share one."""
    mask = support.cpu().numpy()
    parts = _cached_geometry(mask.tobytes(), mask.shape[0])
    return Geometry(*(torch.from_numpy(part).to(support.device) for part in parts))


@lru_cache(maxsize=16)
def _cached_geometry(mask: bytes, frames: int) -> tuple[Float[np.ndarray, "*axes"], ...]:
    """The fields of `Geometry`, in order."""
    support = np.frombuffer(mask, bool).reshape(frames, frames).astype(np.float64)
    counts = support.sum(1)
    shared = support / np.maximum(counts, 1)[:, None]
    inverse = _inverse(np.diag(support.sum(0)) - support.T @ shared, support)
    # P_i G P_k = G on S_i x S_k less the means of its rows and columns, plus its mean.
    to_support = shared @ inverse
    means = to_support @ shared.T
    squared_means = support @ to_support.T**2
    overlap = (
        support @ inverse**2 @ support.T
        - squared_means * counts
        - squared_means.T * counts[:, None]
        + means**2 * np.outer(counts, counts)
    )
    centred = (np.diag(inverse) - 2 * to_support + np.diag(means)[:, None]) * support
    return inverse, counts, centred.sum(1), (centred**2).sum(1), np.maximum(overlap, 0.0)


def _inverse(
    laplacian: Float[np.ndarray, "key key"], support: Float[np.ndarray, "query key"]
) -> Float[np.ndarray, "key key"]:
    """L^+, up to constants on each component of L: its null space, which no row of D has a part in."""
    _, component = scipy.sparse.csgraph.connected_components(support.T @ support)
    same = component[:, None] == component[None]
    return np.linalg.inv(laplacian + same)

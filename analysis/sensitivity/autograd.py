"""Frame Jacobian norms of any function of frames by automatic differentiation: exact, or by random probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import scipy  # its parts are imported when they are used
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.advance import advance
from analysis.chunking import chunks
from gmsa_models.errors import ArgumentError

__all__ = ["autograd_norms", "sampled_ends", "sampled_norms"]

Frames = Float[Tensor, "frames dim"]
Function = Callable[[Frames], Frames]


def autograd_norms(
    function: Function, inputs: Frames, max_bytes: int, queries: Sequence[int] | None = None
) -> Float[Tensor, "query key"]:
    """|dY_i / dX_j|, Frobenius, by one vector-Jacobian product for each component of each output frame.

    Args:
        function: from frames to frames, differentiable.
        inputs: X.
        max_bytes: about the most that the products taken at once may hold; one alone may hold more.
        queries: output frames whose rows are wanted; default: all.

    Returns:
        One row a query wanted, one column a frame.
    """
    products, bytes_each = _vector_products(function, inputs)
    queries = range(len(inputs)) if queries is None else queries
    dim = inputs.shape[1]
    squared = inputs.new_zeros(len(queries), len(inputs))
    for row, query in enumerate(queries):
        for part in chunks(dim, max_bytes, bytes_each):
            components = torch.arange(part.start, part.stop, device=inputs.device)
            cotangents = inputs.new_zeros(len(components), *inputs.shape)
            cotangents[torch.arange(len(components)), query, components] = 1.0
            squared[row] += products(cotangents).square().sum((0, 2))
        advance(1 / len(queries))
    return squared.sqrt()


def sampled_norms(
    function: Function, inputs: Frames, probes: int, seed: int, max_bytes: int
) -> tuple[Float[Tensor, "query key"], Float[Tensor, "query key"]]:
    """|dY_i / dX_j|, Frobenius, estimated: |J|^2 is the mean of |u^T J|^2 over vectors u of random signs.

    Args:
        function: from frames to frames, differentiable.
        inputs: X.
        probes: K, vectors a query frame, at least 2. The relative error falls as 1 / sqrt(K).
        seed: of the signs; the same seed gives the same estimate, whatever `max_bytes` is.
        max_bytes: as in `autograd_norms`.

    Returns:
        The estimates, and their standard errors: that of the mean of the squares, divided by twice the norm. For an
        interval see `sampled_ends`.

    Raises:
        ArgumentError: fewer than 2 probes.

    Source:
        Hutchinson, A stochastic estimator of the trace, 1990, applied to J J^T; the delta method for the root.
    """
    if probes < 2:
        raise ArgumentError(f"probes is {probes!r}; a standard error needs at least 2")
    products, bytes_each = _vector_products(function, inputs)
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = torch.empty(2, len(inputs), len(inputs), dtype=torch.float64, device=inputs.device)
    for query in range(len(inputs)):
        signs = torch.randint(2, (probes, inputs.shape[1]), generator=generator).to(inputs) * 2 - 1
        squares = []
        for part in chunks(probes, max_bytes, bytes_each):
            cotangents = inputs.new_zeros(part.stop - part.start, *inputs.shape)
            cotangents[:, query] = signs[part]
            squares.append(products(cotangents).square().sum(2))
        mean[query] = torch.cat(squares).double().mean(0)
        deviation[query] = torch.cat(squares).double().std(0)
        advance(1 / len(inputs))
    norms = mean.sqrt()
    # Where the norm is 0 every probe saw 0, and the estimate is certain.
    errors = torch.where(norms > 0, deviation / (2 * norms.clamp(min=1e-300) * probes**0.5), 0.0)
    return norms.to(inputs.dtype), errors.to(inputs.dtype)


def sampled_ends(
    norms: Float[Tensor, "*shape"], errors: Float[Tensor, "*shape"], probes: int, level: float = 0.95
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Both ends of the interval of sampled norms: Student's t with `probes` - 1 degrees of freedom, times the error.

    A standard error of few probes is itself uncertain: the estimate give or take 1.96 of it holds the norm in 65 of 100
    cases at 2 probes, this interval in 91 to 95 (`benchmarks/coverage.py`).

    Args:
        norms, errors: of `sampled_norms`.
        probes: of which they are, at least 2.
        level: of the interval.

    Raises:
        ArgumentError: fewer than 2 probes.
    """
    if probes < 2:
        raise ArgumentError(f"probes is {probes!r}; an interval needs at least 2")
    reach = float(scipy.stats.t.ppf((1 + level) / 2, probes - 1)) * errors
    return (norms - reach).clamp(min=0), norms + reach


def _vector_products(
    function: Function, inputs: Frames
) -> tuple[Callable[[Float[Tensor, "vectors frames dim"]], Float[Tensor, "vectors frames dim"]], int]:
    """u^T J for many u at once, and about how many bytes one of them takes.

    A product goes back through every intermediate result that the forward pass kept, and holds a gradient as large as
    each: their bytes together, though some are let go before others are made, are the measure.
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    leaf = inputs.detach().clone().requires_grad_()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = function(leaf)

    def products(cotangents: Float[Tensor, "vectors frames dim"]) -> Float[Tensor, "vectors frames dim"]:
        return torch.autograd.grad(outputs, leaf, cotangents, retain_graph=True, is_grads_batched=True)[0]

    return products, sum(kept.values()) + 3 * inputs.numel() * inputs.element_size()

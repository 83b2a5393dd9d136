"""Slow definitions, one derivative at a time: frame Jacobian norms, local sensitivity, profiles over lag."""

from __future__ import annotations

import math

import numpy as np
import torch


def frame_gradient_norms(output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Root of the sum of squares of d output[i, a] / d given[j, b] over a and b, for tensors (frames, dim) in a graph.

    `given` may have a leading axis of 1, as the input of a trace has.
    """
    frames, dim = output.shape
    squared = torch.zeros(frames, frames, dtype=output.dtype)
    for i in range(frames):
        for a in range(dim):
            (gradient,) = torch.autograd.grad(output[i, a], given, retain_graph=True)
            for j in range(frames):
                squared[i, j] += sum(value * value for value in gradient.reshape(-1, gradient.shape[-1])[j].tolist())
    return squared.sqrt()


def local_sensitivity(norms: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Equation 10, frame by frame; NaN norms are frames that do not exist."""
    out = np.full(len(norms), np.nan)
    for i in range(len(norms)):
        near = [norms[i, j] for j in range(len(norms)) if inside[i, j] and not math.isnan(norms[i, j])]
        far = [norms[i, j] for j in range(len(norms)) if not inside[i, j] and not math.isnan(norms[i, j])]
        if near and far and (sum(near) or sum(far)):
            out[i] = np.mean(near) / (np.mean(near) + np.mean(far))
    return out


def mean_and_mass_by_lag(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the pairs (i, j) with |i - j| = lag, and their share of the sum over all pairs."""
    frames = len(matrix)
    mean, mass = np.full(frames, np.nan), np.zeros(frames)
    for lag in range(frames):
        pairs = [matrix[i, j] for i in range(frames) for j in range(frames) if abs(i - j) == lag]
        pairs = [value for value in pairs if not math.isnan(value)]
        if pairs:
            mean[lag] = np.mean(pairs)
        mass[lag] = sum(pairs) / np.nansum(matrix)
    return mean, mass

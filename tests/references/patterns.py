"""Slow definitions, one number at a time: patterns of one map, verticality by least squares, contributions."""

from __future__ import annotations

import itertools
import math

import numpy as np


def keys_of(query: int, mask: np.ndarray, valid: np.ndarray) -> list[int]:
    """Keys that a query may attend to."""
    return [key for key in range(len(mask)) if mask[query, key] and valid[query] and valid[key]]


def of_queries(weights: np.ndarray, mask: np.ndarray, valid: np.ndarray, statistic) -> np.ndarray:
    """A statistic of (shares of a row over its support, the support, the query), query by query; nan at padding."""
    out = np.full(len(weights), np.nan)
    for query in range(len(weights)):
        keys = keys_of(query, mask, valid)
        if keys:
            row = np.array([weights[query, key] for key in keys])
            out[query] = statistic(row / row.sum(), keys, query)
    return out


def entropy(shares: np.ndarray, keys: list[int], query: int) -> float:
    return -sum(share * math.log(share) for share in shares if share > 0)


def relative_entropy(shares: np.ndarray, keys: list[int], query: int) -> float:
    return entropy(shares, keys, query) / math.log(len(keys)) if len(keys) > 1 else 1.0


def distance(shares: np.ndarray, keys: list[int], query: int) -> float:
    return sum(share * abs(query - key) for share, key in zip(shares, keys, strict=True))


def diagonal_share(shares: np.ndarray, keys: list[int], query: int, within: int) -> float:
    return sum(share for share, key in zip(shares, keys, strict=True) if abs(query - key) <= within)


def hoyer(shares: np.ndarray, keys: list[int], query: int) -> float:
    root = math.sqrt(len(keys))
    if len(keys) == 1:
        return 0.0
    return (root - sum(abs(shares)) / math.sqrt(sum(shares**2))) / (root - 1)


def keys_for_mass(shares: np.ndarray, keys: list[int], query: int, mass: float) -> float:
    held, count = 0.0, 0
    for share in sorted(shares, reverse=True):
        held, count = held + share, count + 1
        if held >= mass - 1e-6:
            break
    return count / len(keys)


def head_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over queries of the square root of the Jensen-Shannon divergence in bits."""
    distances = []
    for one, two in zip(first, second, strict=True):
        middle = (one + two) / 2
        divergence = 0.0
        for shares in (one, two):
            divergence += sum(a * math.log2(a / b) for a, b in zip(shares, middle, strict=True) if a > 0) / 2
        distances.append(math.sqrt(max(divergence, 0.0)))
    return float(np.mean(distances))


def verticality(shares: np.ndarray, support: np.ndarray) -> float:
    """R^2 of D[i, j] ~ c_j - (mean of c over N_i), entries of the support only, by least squares on a design matrix."""
    frames = len(shares)
    rows, targets = [], []
    for query in range(frames):
        keys = np.flatnonzero(support[query])
        for key in keys:
            design = np.zeros(frames)
            design[key] += 1
            design[keys] -= 1 / len(keys)
            rows.append(design)
            targets.append(shares[query, key] - 1 / len(keys))
    design, target = np.array(rows), np.array(targets)
    fit = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return float(fit @ fit / (target @ target))


def column_verticality(shares: np.ndarray) -> float:
    """With every key in reach of every query: the variance of column means over the variance of entries."""
    frames = len(shares)
    return float(frames * np.sum((shares.mean(0) - 1 / frames) ** 2) / np.sum((shares - 1 / frames) ** 2))


def shuffled_verticalities(shares: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Verticality after every possible shuffle of every row within its support."""
    values = []
    keys = [np.flatnonzero(row) for row in support]
    for orders in itertools.product(*(list(itertools.permutations(each)) for each in keys)):
        shuffled = np.zeros_like(shares)
        for query, order in enumerate(orders):
            shuffled[query, keys[query]] = shares[query, list(order)]
        values.append(verticality(shuffled, support))
    return np.array(values)


def contribution(kind: str, branch: str, layer, values: dict, clip: int, frame: int, heads: int) -> np.ndarray:
    """What one branch adds to one output frame, key by key and head by head; `values` are the block's parameters."""
    inputs = layer.input[clip].detach().numpy()
    dim = inputs.shape[1]
    width = dim // heads
    if kind == "gate-op":
        context = np.concatenate(
            [_context(layer.weights[branch][clip, head], inputs, values, frame, head, width) for head in range(heads)]
        )
        return layer.gates[branch][clip, frame].numpy() * (values[f"output_{branch}.weight"] @ context)
    out = np.zeros(dim)
    first = heads // 2 if (kind, branch) == ("share-att", "local") else 0
    for place, weights in enumerate(layer.weights[branch][clip]):
        head = first + place
        gate = layer.gates[branch][clip, head] if kind == "gate-att" else 1.0
        context = _context(gate * weights, inputs, values, frame, head, width)
        out += values["output.weight"][:, head * width : (head + 1) * width] @ context
    return out


def _context(weights, inputs: np.ndarray, values: dict, frame: int, head: int, width: int) -> np.ndarray:
    here = slice(head * width, (head + 1) * width)
    out = np.zeros(width)
    for key in range(len(inputs)):
        value = values["value.weight"][here] @ inputs[key] + values["value.bias"][here]
        out += float(weights[frame, key]) * value
    return out

"""Slow definitions for tests of explanations: one forward pass for each number."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from gmsa_models.data.batch import Batch


def logit(model, features: dict[str, torch.Tensor], target: int) -> float:
    """The model's logit of one class from frames (frames, width) of each modality."""
    frames = len(next(iter(features.values())))
    batch = Batch({name: each[None] for name, each in features.items()}, torch.ones(1, frames, dtype=torch.bool))
    with torch.no_grad():
        return float(model(batch)[0, target])


def gradient(model, features: dict[str, torch.Tensor], modality: str, target: int, step: float = 1e-5) -> torch.Tensor:
    """Central differences of the logit by every feature of a modality."""
    slopes = torch.zeros_like(features[modality])
    for index in itertools.product(*map(range, slopes.shape)):
        ends = []
        for sign in (1, -1):
            moved = features[modality].clone()
            moved[index] += sign * step
            ends.append(logit(model, features | {modality: moved}, target))
        slopes[index] = (ends[0] - ends[1]) / (2 * step)
    return slopes


def replaced(features: dict[str, torch.Tensor], baseline: dict[str, torch.Tensor], which) -> dict[str, torch.Tensor]:
    """Features with some frames replaced in every modality."""
    which = list(which)
    found = {name: each.clone() for name, each in features.items()}
    for name, each in found.items():
        each[which] = baseline[name][which]
    return found


def shapley(value, players: int) -> np.ndarray:
    """Exact Shapley values: the mean over all orders of what each player adds."""
    total = np.zeros(players)
    orders = list(itertools.permutations(range(players)))
    for order in orders:
        for place, player in enumerate(order):
            total[player] += value(set(order[: place + 1])) - value(set(order[:place]))
    return total / len(orders)


def roc_auc(values, shows) -> float:
    """Share of pairs in the right order, ties half, one pair at a time."""
    pairs = [
        (a, b)
        for a, yes in zip(values, shows, strict=True)
        for b, no in zip(values, shows, strict=True)
        if yes and not no
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)

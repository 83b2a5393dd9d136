"""Sanity: an explanation of a trained model must not look the same for a model that has learnt nothing."""

from __future__ import annotations

import copy

import scipy  # its parts are imported when they are used
import torch
from torch import nn

from analysis.explanations.registry import explain
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import standard_contexts

__all__ = ["rank_correlation_with_shuffled", "shuffle_parameters"]


def shuffled_weights(model: GMSAClassifier, seed: int = 0) -> GMSAClassifier:
    """A copy with the entries of every parameter in random order: the same numbers, nothing learnt.

    Args:
        model: left as it is.
        seed: of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    with standard_contexts():
        shuffled = copy.deepcopy(model)
        shuffle_parameters(shuffled, generator)
    return shuffled


def shuffle_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Put the entries of every parameter of a module in random order, in place; gradients must be off."""
    for parameter in module.parameters():
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


def rank_correlation_with_shuffled(model: GMSAClassifier, clip: Clip, target: int, method: str, seed: int = 0) -> float:
    """Spearman's rho of an explanation of the model with that of `shuffled_weights`; near 1: it does not see the model.

    Args:
        model: the trained model.
        clip: what is explained.
        target: position of the class.
        method: a key of `EXPLANATIONS`.
        seed: of the shuffle.

    Returns:
        In [-1, 1], over the frames.

    Source:
        Adebayo et al., "Sanity Checks for Saliency Maps", 2018, the model parameter randomisation test.
    """
    both = [explain(each, clip, target, method).frames for each in (model, shuffled_weights(model, seed))]
    return float(scipy.stats.spearmanr(*(each.double().numpy() for each in both)).statistic)

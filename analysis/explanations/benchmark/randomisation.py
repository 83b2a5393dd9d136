"""Randomisation test: as a model loses its parameters, from the top down, its explanations must change.

Two measures, of the same pass: how like the explanations stay (the original test), and by how much their complexity
rises when all parameters are random (the efficient one, which needs no measure of likeness).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import nn

from analysis.explanations.sanity import shuffle_parameters
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.evaluating import standard_contexts

__all__ = [
    "RANDOMISATION_MEASURES",
    "histogram_entropy",
    "randomisation_measures",
    "randomised_models",
    "rank_correlation",
]

RANDOMISATION_MEASURES = ("randomised_similarity", "complexity_rise")
BINS = 100

Values = Float[np.ndarray, " frames"]


def randomised_models(model: GMSAClassifier, seed: int = 0) -> Iterator[tuple[str, GMSAClassifier]]:
    """The model with the entries of more and more of its parameters in random order, from its outputs down.

    Args:
        model: left as it is.
        seed: of the orders.

    Yields:
        What was randomised last, and a model; of encoders the parts at one height of all modalities together. The last
        model has nothing that was learnt.
    """
    generator = torch.Generator().manual_seed(seed)
    with standard_contexts():
        randomised = copy.deepcopy(model)
    for name, modules in _from_the_top(randomised):
        with standard_contexts():
            for module in modules:
                shuffle_parameters(module, generator)
            yielded = copy.deepcopy(randomised)
        yield name, yielded


def _from_the_top(model: GMSAClassifier) -> Iterator[tuple[str, list[nn.Module]]]:
    """Parts of a model in the order in which they are randomised; every parameter is in one of them."""
    encoders = list(model.encoders.values())
    yield "classifier", [model.classifier, *(encoder.norm for encoder in encoders)]
    for number in reversed(range(max(len(encoder.layers) for encoder in encoders))):
        layers = [encoder.layers[number] for encoder in encoders if number < len(encoder.layers)]
        attention: list[nn.Module] = [each.attention for each in layers if each.attention is not None]
        above = [child for each in layers for child in each.children() if child not in attention]
        yield f"layer {number}, above attention", above
        if attention:
            yield f"layer {number}, attention", attention
    projections: list[nn.Module] = [encoder.project for encoder in encoders if encoder.project is not None]
    if projections:
        yield "projection", projections


def randomisation_measures(original: Values, randomised: list[Values]) -> dict[str, float]:
    """How an explanation changes as the model is randomised.

    "randomised_similarity": the absolute rank correlation with the explanation of the trained model, mean over the
    models of `randomised_models`; near 1: the explanation does not see the model. "complexity_rise": the relative rise
    of the entropy of the values' histogram from the trained model to the last; an explanation that says something is
    less complex than one of a model that has learnt nothing.

    Args:
        original: of the trained model.
        randomised: of the models of `randomised_models`, in order; at least one.

    Source:
        Adebayo et al., "Sanity Checks for Saliency Maps", 2018; Hedstrom et al., "A Fresh Look at Sanity Checks for
        Saliency Maps", 2024 (eMPRT).
    """
    likeness = [abs(rank_correlation(original, each)) for each in randomised]
    before, after = histogram_entropy(original), histogram_entropy(randomised[-1])
    rise = (after - before) / before if before > 0 else float("nan")
    return dict(zip(RANDOMISATION_MEASURES, (float(np.mean(likeness)), rise), strict=True))


def rank_correlation(one: Values, other: Values) -> float:
    """Spearman's rho; of two constants 1, of one constant 0: it orders nothing."""
    constant = [bool((each == each[0]).all()) for each in (one, other)]
    if any(constant):
        return float(all(constant))
    return float(stats.spearmanr(one, other).statistic)


def histogram_entropy(values: Values, bins: int = BINS) -> float:
    """Entropy, in nats, of the histogram of some values over their range; 0 of a constant."""
    counts, _ = np.histogram(values, bins)
    return float(stats.entropy(counts))

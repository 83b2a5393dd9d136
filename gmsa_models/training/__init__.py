"""Training: the loop, its recipe, its objective, and the state from which a stopped run goes on."""

from gmsa_models.training.loop import DivergedError, TrainingResult, fit
from gmsa_models.training.recipe import Recipe

__all__ = [
    "DivergedError",
    "Recipe",
    "TrainingResult",
    "fit",
]

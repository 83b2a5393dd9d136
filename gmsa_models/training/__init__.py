"""Training: the loop, its recipe, its objective, and the state from which a stopped run goes on."""

from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.training.result import TrainingResult

__all__ = ["Recipe", "TrainingResult", "fit"]

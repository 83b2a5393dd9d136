"""Pretraining: encoders that learn of clips without labels, by predicting frames that are hidden from them."""

from gmsa_models.pretraining.recipe import PretrainingRecipe
from gmsa_models.pretraining.task import pretrain

__all__ = ["PretrainingRecipe", "pretrain"]

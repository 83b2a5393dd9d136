"""Evaluation: GAP, MAP, PERR and Hit@1 of a model over any amount of data."""

from gmsa_models.evaluation.metrics import ClassificationMetrics, classification_metrics
from gmsa_models.evaluation.scoring import evaluate

__all__ = [
    "ClassificationMetrics",
    "classification_metrics",
    "evaluate",
]

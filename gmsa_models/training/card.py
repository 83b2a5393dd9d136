"""What a checkpoint's card says of the run that it came from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from gmsa_models.data.spaces import spaces_to_dict
from gmsa_models.feeding import TrainingClips, in_hand
from gmsa_models.training.log import Values
from gmsa_models.training.recipe import Recipe

__all__ = ["card_of_run"]


def card_of_run(
    recipe: Recipe, clips: TrainingClips, modalities: dict[str, int], training: dict[str, Any], scores: Values
) -> dict[str, Any]:
    """Recipe, data, scores and feature spaces.

    Args:
        recipe: of the run.
        clips: that it trains on.
        modalities: of the model.
        training: what else is said of the training.
        scores: of the validation; empty without one.
    """
    return {
        "recipe": recipe.to_dict(),
        "training": {
            "clips": len(clips),
            "source": "clips in hand" if in_hand(clips.source) else str(clips.source),
            **({} if clips.part is None else {"labelled_share": asdict(clips.part)}),
            **training,
            "processes": clips.world_size,
            "torch": torch.__version__,
        },
        "validation": scores,
        "feature_spaces": spaces_to_dict({name: space for name, space in clips.spaces().items() if name in modalities}),
    }
